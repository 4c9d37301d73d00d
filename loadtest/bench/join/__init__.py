"""Joining, measured: ``make bench-join``, and each role alone: ``make test-roles``."""
