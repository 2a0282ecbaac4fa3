"""`gt refinery`."""
