"""Cleanup, verification and the ledger's size."""
