"""The Mayor: escalations, decisions and notifications."""
