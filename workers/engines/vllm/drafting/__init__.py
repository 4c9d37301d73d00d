"""Drafts from outside for vLLM: its scheduler replaced by one that asks for the whole batch's proposals at once."""
