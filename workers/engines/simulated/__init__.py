"""A simulated engine: the contract without weights. See README.md."""
