"""Decisions of the Mayor, and who is notified."""
