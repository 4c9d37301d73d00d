"""Joining, measured: ``make bench-join``."""
