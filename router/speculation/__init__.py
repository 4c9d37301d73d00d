"""Drafts for targets: who is paired with whom, and why not."""
