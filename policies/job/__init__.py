"""Decisions about one job and its agent."""
