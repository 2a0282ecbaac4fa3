"""Beads: rows, dependencies, labels, history, import and export."""
