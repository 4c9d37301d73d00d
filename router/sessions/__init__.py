"""The gRPC sessions that workers hold: the service, one session's state, its events, its watchdog."""
