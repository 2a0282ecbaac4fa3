"""A rig's merge queue, and the merges that it starts."""
