"""The HTTP server's side that knows no dialect: ASGI, exchanges, bounds, errors, the OpenAPI document."""
