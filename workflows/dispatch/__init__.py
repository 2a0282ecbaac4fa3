"""A rig's dispatcher: which bead is worked on, by which polecat, on which host."""
