"""Dolt, the record: one `Ledger` over a Dolt SQL server or an embedded doltlite file."""
