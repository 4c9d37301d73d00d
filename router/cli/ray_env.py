"""``allsorts ray-env``: the settings a Ray node must be started with, to be part of a router's cluster."""

import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from router.config import HttpConfig
from router.limits import most_connections, raise_descriptor_limit
from router.trust.exposure import outward_address


def ray_env(
    host: Annotated[str, typer.Option(help="Where this node's HAProxy listens; empty: its outward address.")] = "",
    connections: Annotated[int, typer.Option(min=1, help="Of clients, on this node.")] = HttpConfig().connections_limit,
) -> None:
    """Print what to export before ``ray start`` on a node, as ``allsorts serve --address`` wants it.

    Examples:
      eval "$(allsorts ray-env)" && ray start --head

      eval "$(allsorts ray-env --host 10.0.0.7)" && ray start --address 10.0.0.1:6379

    """
    from router.ray.serve import DESCRIPTORS_EACH
    from router.ray.settings import node_environment

    room = min(connections, most_connections(raise_descriptor_limit()) // DESCRIPTORS_EACH)
    work_dir = Path(tempfile.mkdtemp(prefix="allsorts-node-"))
    settings = node_environment(work_dir=work_dir, address=host or outward_address(), connections=room)
    for name, value in sorted(settings.items()):
        print(f"export {name}={shlex.quote(value)}")
