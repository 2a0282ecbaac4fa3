"""What several workflows use."""
