"""``make attack``: what anybody may send, on real processes, while honest clients are served and watched."""
