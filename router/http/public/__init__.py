"""What is answered without inference: models, health, version, metrics, documents; also to Ollama's clients."""
