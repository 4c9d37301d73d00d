"""What is not Ray's (2.60) public interface: two functions of Serve that are replaced, and why; one that is asked.

Nothing else here knows Ray's insides.

Serve's replica binds its port for calls between deployments to every interface, and unpickles what comes: whoever
reached it could run code. Nothing here calls it. Its HTTP port, where HAProxy sends requests, binds to the one host
that all of Serve has, which with several nodes can only be every interface. There is no setting for either; both are
put on the node's own address before they bind, which is after the deployment's constructor.

``tests/unit/router/ray/test_private.py`` fails when Ray changes what is relied on.
"""

from collections.abc import Callable
from typing import Any

BIND_PORT = "add_port_to_grpc_server"
HTTP_OPTIONS = "configure_http_options_with_defaults"


def draining_nodes() -> frozenset[str]:
    """Ids of nodes that Ray is about to take away: drained by whoever runs the cluster, its autoscaler or its cloud.

    Ray tells it of nodes nowhere in public; Serve asks the same function. Blocks.
    """
    from ray._private import state

    return frozenset(state.state.get_draining_nodes())


def keep_ports_at(address: str, *, http: str = "") -> None:
    """The replica's port for calls listens on ``address`` alone, that for requests on ``http``, where it is given:
    there this node's HAProxy looks for it. Called once in a replica's process.
    """
    from ray.serve._private import replica

    bind_port: Callable[[Any, str], int] = getattr(replica, BIND_PORT)
    http_options: Callable[[Any], Any] = getattr(replica, HTTP_OPTIONS)
    setattr(replica, BIND_PORT, lambda server, where: bind_port(server, where.replace("[::]", address)))
    if http:
        setattr(replica, HTTP_OPTIONS, lambda options: http_options(options).model_copy(update={"host": http}))
