"""Decisions about the merge queue and its gates."""
