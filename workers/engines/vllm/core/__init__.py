"""vLLM's core process: how it is told, started and listened to."""
