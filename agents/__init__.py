"""How agent programs are started and spoken to: presets and the session folder. Standard library only."""
