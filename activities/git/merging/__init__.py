"""Chains of landing commits, and what a target's history says."""
