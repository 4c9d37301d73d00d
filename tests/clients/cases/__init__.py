"""One module for each client: functions that use it as its own documentation does. They run in its environment."""
