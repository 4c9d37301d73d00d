"""Bringing a machine into a pool, keeping it there over restarts, and taking it out again."""
