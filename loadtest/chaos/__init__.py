"""``make chaos``: everything that can happen to a machine, done to real processes while 200 streams run."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # children are started while the liar's calls are open
