"""Under which names a router without keys answers: its own machine's, and those that its operator lists.

A web page can point its own domain at 127.0.0.1 and then counts as the same origin to the browser; its name in the Host
header gives it away. An address is no name: nobody can point one elsewhere.
"""

import ipaddress
import socket
from collections.abc import Iterable

from protos.contract.addresses import is_loopback
from router.errors import NotAllowed

OWN_DOMAINS = (".localhost", ".internal")
"""No public name ends so: containers call their host by ``host.docker.internal`` and the like."""

REMEMBERED = 256
"""Names that were allowed; past so many each is looked at again."""


class AllowedHosts:
    """``listed``: names beyond those of this machine; a name that begins with a dot stands for all below it."""

    def __init__(self, listed: Iterable[str] = ()) -> None:
        names = [name.lower().rstrip(".") for name in listed]
        self._names = {name for name in names if not name.startswith(".")} | {socket.gethostname().lower()}
        self._allowed: set[str] = set()  # as clients wrote them: a pool is asked under few names, again and again
        self._domains = (*OWN_DOMAINS, *(name for name in names if name.startswith(".")))

    def allows(self, host: str) -> bool:
        """``host``: a Host header, or the host and port of an origin.

        >>> hosts = AllowedHosts(["llm.lan", ".example.org"])
        >>> [hosts.allows(one) for one in ("localhost:8000", "[::1]:80", "10.1.2.3", "host.docker.internal", "llm.lan")]
        [True, True, True, True, True]
        >>> [hosts.allows(one) for one in ("a.example.org:80", "example.com", "localhost.example.com", "")]
        [True, False, False, False]
        """
        name = _without_port(host).lower().rstrip(".")
        return is_loopback(name) or name in self._names or name.endswith(self._domains) or _is_address(name)

    def refuse_foreign(self, host: str | None) -> None:
        """Raises NotAllowed for a keyless request under another name than these."""
        if host is None or host in self._allowed:
            return
        if self.allows(host):
            if len(self._allowed) < REMEMBERED:
                self._allowed.add(host)
            return
        raise NotAllowed(
            f"without an API key this router answers only to its machine's own names, not to '{host[:100]}'; "
            "make a key: allsorts key create, or list the name in http.allowed_hosts"
        )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
