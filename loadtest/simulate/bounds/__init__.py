"""What nobody could beat: the linear programme over a fleet's true capacities, and a run that knows the future."""
