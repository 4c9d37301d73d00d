"""A pool under steady load and steady change, for an hour: what it holds must not grow."""
