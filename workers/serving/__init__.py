"""Serving: the worker at run time, its jobs, its models, and what the engine's steps tell."""
