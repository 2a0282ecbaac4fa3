"""A job: one bead's attempts, until its work is merged or given up."""
