"""Polecats' repositories and work trees: made, saved, parked and freed."""
