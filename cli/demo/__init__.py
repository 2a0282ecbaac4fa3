"""`gt demo`: nine beads, agents that fail in the known ways, and proof that each landed once."""

from cli.demo.show import run

__all__ = ["run"]
