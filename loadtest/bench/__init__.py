"""Benchmarks of single parts, each a module with ``measure`` and a ``main``."""
