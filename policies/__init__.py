"""Pure decisions: no clock, no randomness, no I/O; everything they need is an argument."""
