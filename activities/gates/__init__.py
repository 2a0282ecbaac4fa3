"""Gates: checked out, run and ended."""
