"""The reading half of a session: events within their bounds before they are built, large ones in parts."""
