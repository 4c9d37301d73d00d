"""``host = "node"``: on every node of a Ray cluster the address by which Ray knows it, and no other."""

from collections.abc import Iterable

import msgspec

from protos.contract.addresses import is_loopback
from router.config import RouterConfig

NODE = "node"


def at_node(config: RouterConfig, address: str) -> RouterConfig:
    """The configuration as it reads on the node of this address."""
    http, grpc = config.http, config.grpc
    if http.host == NODE:
        http = msgspec.structs.replace(http, host=address)
    if grpc.host == NODE:
        grpc = msgspec.structs.replace(grpc, host=address)
    return msgspec.structs.replace(config, http=http, grpc=grpc)


def means_node(config: RouterConfig) -> bool:
    """Whether a host is left to the node."""
    return NODE in (config.http.host, config.grpc.host)


def farthest(addresses: Iterable[str]) -> str:
    """Of a cluster's addresses one beyond loopback, where there is one: the one whose rules hold for all."""
    known = sorted(addresses)
    return next((one for one in known if not is_loopback(one)), known[0] if known else "127.0.0.1")
