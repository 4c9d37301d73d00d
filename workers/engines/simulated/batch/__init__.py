"""Continuous batching as a pure machine: who is in it, what the next steps compute, how long they take."""
