"""llama.cpp over its low-level API: continuous batching, prefix reuse, exact streams."""
