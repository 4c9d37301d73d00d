"""Choosing a worker: filters with reasons, predicted cost, prefix index, quality, decision records. Pure."""
