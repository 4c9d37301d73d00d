"""What the operator wants of the fleet: which models, how many copies, where. Pure."""
