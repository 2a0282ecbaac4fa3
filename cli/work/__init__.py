"""Rigs and work: `gt rig`, `sling`, `job`, `inbox`, `mail`."""
