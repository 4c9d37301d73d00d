"""The HTTP surface: OpenAI's API, the operator's API, health and metrics, as one raw ASGI application."""
