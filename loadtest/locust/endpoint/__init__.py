"""The server under test: asking it, and listening to what it says."""
