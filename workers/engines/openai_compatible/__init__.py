"""Any server that speaks OpenAI's API as an engine: llama-server, Ollama, LM Studio, vLLM, mlx-lm."""
