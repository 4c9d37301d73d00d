"""What an address is: this very machine, or anything beyond it. Safety rules hang on the difference."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine alone. Names other than localhost do not count: they may move.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def peer_host(peer: str) -> str:
    """The host of a gRPC peer such as ``ipv4:127.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``; empty for other kinds."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return ""
    return rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")


def join_host_port(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address.

    >>> join_host_port("10.0.0.1", 9000), join_host_port("::1", 9000)
    ('10.0.0.1:9000', '[::1]:9000')
    """
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
