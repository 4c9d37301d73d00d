"""What a model is, read once for both sides: its files, its shape, its quantization, its KV cache."""
