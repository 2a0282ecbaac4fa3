"""A town and its watchers: `gt up`, `status`, `config`, `doctor`, `alert`."""
