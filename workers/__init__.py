"""A worker of Allsorts: one process that serves models on one engine on one machine, and joins a fleet."""
