"""The worker's commands. They import neither router nor ray, so that a Mac installs without them."""
