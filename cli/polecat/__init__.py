"""`gt polecat`."""
