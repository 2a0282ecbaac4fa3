"""Dolt keeps the record: `from ledger.store import Ledger`.

Nothing is imported here, so that a command that needs no record does not pay for SQLAlchemy.
"""
