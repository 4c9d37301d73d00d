"""Which addresses may be fetched from: listed hosts, at public addresses alone. Pure.

Whoever may send a request may name a URL: without these rules the router would fetch from its own machine and network,
which its clients cannot reach (server-side request forgery). They hold for every redirect anew.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_URL_CHARS = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}

_NO_GLOBAL = tuple(ipaddress.ip_network(one) for one in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
"""Ways to write an IPv4 address into an IPv6 one (NAT64, 6to4, Teredo): what is behind them is not looked at."""


class NotToBeFetched(Exception):
    """Why, for the client."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is fetched from."""

    url: str
    scheme: str
    host: str


class ImageHosts:
    """``listed``: names; ``.example.org`` for all below it, ``*`` for every public one, ``name:8080`` at that port."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._listed = frozenset(one.lower().rstrip(".") for one in listed)

    def __bool__(self) -> bool:
        return bool(self._listed)

    def place(self, url: str, *, from_https: bool = False) -> Place:
        """Raises NotToBeFetched. ``from_https``: a redirect of a page that came encrypted.

        >>> ImageHosts([".example.org"]).place("https://Img.example.org/a.png").host
        'img.example.org'
        """
        scheme, host, port = _parts(url)
        if from_https and scheme != "https":
            raise NotToBeFetched("it leads from https to http")
        if not self._allows(host, port, DEFAULT_PORTS[scheme]):
            shown = f"{host[:100]}" + ("" if port in (None, DEFAULT_PORTS[scheme]) else f":{port}")
            raise NotToBeFetched(f"{shown} is not among the hosts that this server fetches images from")
        if (address := _address(host)) is not None and not is_public(address):
            raise NotToBeFetched("its address is not public")
        return Place(url, scheme, host)

    def _allows(self, host: str, port: int | None, default_port: int) -> bool:
        if port is not None and port != default_port:
            return f"{host}:{port}" in self._listed
        parents = (host[at:] for at, letter in enumerate(host) if letter == ".")
        return host in self._listed or "*" in self._listed or any(one in self._listed for one in parents)


def _parts(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Raises NotToBeFetched."""
    if len(url) > MAX_URL_CHARS:
        raise NotToBeFetched(f"its URL has more than {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotToBeFetched("its URL is not valid") from None
    host = (parts.hostname or "").lower().rstrip(".")
    odd = any(letter in host for letter in "\\%") or not url.isprintable() or " " in url
    if parts.scheme not in DEFAULT_PORTS or not host or odd:
        raise NotToBeFetched("its URL is not valid")
    if parts.username is not None or parts.password is not None:
        raise NotToBeFetched("its URL has a user name in it")
    return parts.scheme, host, port


def _address(host: str) -> str | None:
    """A host that is an address, and no name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an address is out on the internet: not this machine, its network, or a cloud's metadata service.

    >>> [is_public(one) for one in ("8.8.8.8", "2606:4700::1111", "127.0.0.1", "10.1.2.3", "169.254.169.254", "::1")]
    [True, True, False, False, False, False]
    >>> [is_public(one) for one in ("::ffff:10.0.0.1", "64:ff9b::7f00:1", "fd00::1", "224.0.0.1", "0.0.0.0")]
    [False, False, False, False, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif any(found in network for network in _NO_GLOBAL):
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved and not found.is_unspecified
