"""What speculation wins and never loses: on the real model, and its governor on measured verify curves."""
