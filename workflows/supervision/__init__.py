"""The watchers: Witness, Deacon and Boot."""
