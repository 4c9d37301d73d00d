"""Other people's servers and classes, run beside ours on the same model and threads."""
