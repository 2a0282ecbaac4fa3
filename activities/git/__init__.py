"""git on this host: the town's own clones, polecats' repositories, saving and landing work."""
