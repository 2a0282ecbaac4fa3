"""What a process may see, and what is secret."""
