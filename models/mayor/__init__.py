"""Escalations, alerts and mail."""
