"""The two Dolt engines: schema, transactions, versions."""
