"""Ollama's API: chat, generate, embeddings, and the models there are, as NDJSON or whole."""
