"""A server we did not write, as tests start it."""

from loadtest.peers.llama_server import running

__all__ = ["running"]
