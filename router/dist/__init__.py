"""The head hands out itself: its own wheel, what installs it on a bare machine, and the wheels beside it."""
