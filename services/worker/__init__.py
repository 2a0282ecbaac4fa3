"""What a worker does beside its workflows and activities."""
