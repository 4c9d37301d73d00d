"""Pools that measurements are made on: what starting, asking and ending them have in common."""
