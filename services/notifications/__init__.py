"""Alerts: the alarm, channels and their sender."""
