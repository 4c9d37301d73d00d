"""A server we did not write, as tests start it."""

from loadtest.peers.llama_server import running, server_process

__all__ = ["running", "server_process"]
