"""What the router's commands share: tables, durations, model files, the way to a running router."""
