"""Between values and messages on the wire, both ways: the one place that knows how a value is encoded."""
