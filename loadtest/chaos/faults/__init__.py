"""What is done to a pool beyond signals: threads that stop, networks that go silent, liars, clocks that jump."""
