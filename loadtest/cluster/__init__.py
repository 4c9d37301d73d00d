"""A real Ray cluster on loopback, and what happens to it while streams run: ``make chaos-cluster``."""
