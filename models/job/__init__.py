"""Messages and values of jobs."""
