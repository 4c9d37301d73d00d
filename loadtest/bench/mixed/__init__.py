"""Six simulated machines behind us and behind other people's routers, the same load over real HTTP."""
