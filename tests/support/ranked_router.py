"""One replica of a router that has several, as a process of its own: Ray starts them so, with nothing shared.

python -m tests.support.ranked_router CONFIG RANK PORT
"""

import sys
from pathlib import Path

import uvicorn

from router.app import RouterNode
from router.config import load_config
from router.http.server.bounded_connection import BoundedConnection


def main() -> None:
    config, rank, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    node = RouterNode(load_config(config), rank=rank)
    uvicorn.run(node, http=BoundedConnection, host="127.0.0.1", port=port, log_level="warning", lifespan="on")


if __name__ == "__main__":
    main()
