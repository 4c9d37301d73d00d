"""Bringing a machine into a fleet, keeping it there over restarts, and taking it out again."""
