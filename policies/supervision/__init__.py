"""Decisions of the watchers."""
