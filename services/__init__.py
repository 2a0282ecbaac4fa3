"""What `gt up` runs: Temporal, Dolt and the worker under supervisord, and how to reach them."""
