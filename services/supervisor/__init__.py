"""The town's supervisord: `gt up`, `gt down`, programs and their health."""
