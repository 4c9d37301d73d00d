"""``make bench-house``: this checkout against an older one, in one run on one machine: speed, size, same decisions."""
