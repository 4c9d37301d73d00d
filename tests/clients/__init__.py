"""Clients, unmodified, against a running endpoint: what ``make test-clients`` drives."""
