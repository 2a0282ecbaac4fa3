"""The commands that an agent runs in its session: standard library only."""
