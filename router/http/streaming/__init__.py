"""The way out of a streamed answer: bytes that need nobody to be woken, and what of them goes out together."""
