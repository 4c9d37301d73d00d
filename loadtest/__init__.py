"""Load tests, simulations and benchmarks of the endpoint."""
