"""What a running server answers: its server-sent events, their chunks, and the stream they become."""
