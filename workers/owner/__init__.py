"""What the owner of a machine does with it, and when its worker stays out of the way for that."""
