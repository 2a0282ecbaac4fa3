"""Rows of the ledger and what surrounds beads."""
