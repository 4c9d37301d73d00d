"""The fleet: who is in the pool, the sessions workers hold, how they enrol, live and leave."""
