"""How far the gRPC listeners reach: this machine alone or others too, and what those are told to dial."""

from protos.contract.addresses import is_loopback
from router.config import GrpcConfig


def uses_tls(config: GrpcConfig) -> bool:
    """Whether this configuration means TLS. Beyond loopback there is no choice."""
    return not (config.plain_loopback and is_loopback(config.host))


def advertised_host(config: GrpcConfig) -> str:
    """What workers are told to dial; a wildcard host is replaced by this machine's outward address."""
    if config.advertised_host:
        return config.advertised_host
    return config.host if config.host not in ("0.0.0.0", "::", "") else outward_address()  # noqa: S104 - compared


def outward_address() -> str:
    """The address this machine uses towards others; nothing is sent to find out. Loopback when there is no route."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): a datagram socket only looks up the route
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
