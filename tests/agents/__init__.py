"""The real agent programs, from npm, against a scripted model on loopback."""
