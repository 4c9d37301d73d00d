"""GGUF files: a header's bytes within bounds, and what they mean."""
