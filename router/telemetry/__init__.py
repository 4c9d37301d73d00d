"""What the router tells about itself: structured logs and metrics."""
