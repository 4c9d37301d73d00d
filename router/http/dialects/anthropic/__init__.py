"""Anthropic's Messages API: messages, and the count of their tokens."""
