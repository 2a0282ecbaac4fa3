"""Temporal of a town: its server, clients, schedules and restarts."""
