"""Messages between the watchers, and requests to hosts."""
