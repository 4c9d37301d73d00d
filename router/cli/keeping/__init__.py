"""Commands about what a pool keeps: models' files on its machines, and the head's state."""
