"""Discrete-event simulation of a whole pool: the server's own placement, admission and simulated engines."""
