"""`bd`: beads."""
