"""Messages and values of the merge queue."""
