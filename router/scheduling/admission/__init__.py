"""Letting requests in: limits, the bounded priority queue, shedding with a reason. Pure."""
