"""Durable sequences of decisions: one workflow class per file."""
