"""What a town does by schedule or on a person's order."""
