"""What README claims, measured: `make bench`."""
