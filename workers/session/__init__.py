"""Sessions to router replicas: dialling, messages, the outbox, credentials."""
