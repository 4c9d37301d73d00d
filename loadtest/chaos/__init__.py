"""``make chaos``: everything that can happen to a machine, done to real processes while 200 streams run."""
