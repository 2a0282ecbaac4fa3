"""Decisions about cleanup and the ledger's size."""
