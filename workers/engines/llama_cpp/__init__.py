"""llama.cpp over its low-level API: continuous batching, prefix reuse, exact streams."""

from workers.engines.llama_cpp.engine import LlamaCppEngine

__all__ = ["LlamaCppEngine"]
