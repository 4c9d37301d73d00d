"""Any server that speaks OpenAI's API as an engine: llama-server, Ollama, LM Studio, vLLM, mlx-lm."""

from workers.engines.openai_compatible.discovery import discover
from workers.engines.openai_compatible.engine import OpenAICompatibleEngine

__all__ = ["OpenAICompatibleEngine", "discover"]
