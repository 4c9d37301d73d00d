"""Carrying a placed request to its worker: waiting, attempts over a session, continuation elsewhere."""
