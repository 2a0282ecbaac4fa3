"""Everything that touches the world: one class per outside system, its clients injected by worker.py."""
