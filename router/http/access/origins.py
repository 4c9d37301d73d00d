"""Which web pages may use the endpoint from a browser: those of this machine, and the origins that are listed.

Never every page of the web: a router without keys on somebody's machine would be open to any site he visits. What a
browser sends on behalf of other pages is refused where there are no keys, and never readable for them (CORS).
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from protos.contract.addresses import is_loopback
from router.errors import ConfigError, NotAllowed

Headers = tuple[tuple[bytes, bytes], ...]

EXPOSED = (
    b"x-request-id, x-allsorts-worker, x-allsorts-quantization, x-allsorts-continued, x-allsorts-ignored, retry-after, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
"""Answer headers that a page's script may read."""

PREFLIGHT_S = 600
"""How long a browser may remember what it was allowed."""


class AllowedOrigins:
    """``listed``: origins such as ``https://chat.example.org``. Raises ConfigError for what is no single origin."""

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._listed = frozenset(_checked(one) for one in listed)

    def allows(self, origin: str) -> bool:
        """Whether a page of ``origin`` may use the endpoint and read its answers.

        >>> pages = AllowedOrigins(["https://chat.example.org"])
        >>> [pages.allows(one) for one in ("http://localhost:3000", "http://127.0.0.1", "https://chat.example.org")]
        [True, True, True]
        >>> [pages.allows(one) for one in ("http://chat.example.org", "https://localhost.example.org", "null", "http://[")]
        [False, False, False, False]
        """
        return origin.lower() in self._listed or _on_this_machine(origin)

    def headers(self, origin: str | None) -> Headers:
        """What lets the page read the answer; empty for everybody else."""
        if origin is None:
            return ()
        if not self.allows(origin):
            return ((b"vary", b"origin"),)
        return (
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        )

    def preflight(self, methods: Iterable[str], asked_headers: str | None, *, private_network: bool) -> Headers:
        """The answer to a browser that asks before it sends. Only beside ``headers`` of an allowed origin."""
        allowed = [
            (b"access-control-allow-methods", ", ".join(sorted(methods)).encode()),
            (b"access-control-max-age", b"%d" % PREFLIGHT_S),
        ]
        if asked_headers:
            allowed.append((b"access-control-allow-headers", asked_headers.encode("latin-1")))
        if private_network:
            allowed.append((b"access-control-allow-private-network", b"true"))
        return tuple(allowed)

    def refuse_foreign(self, origin: str | None, *, own_only: bool = False) -> None:
        """Raises NotAllowed for what a browser sends on behalf of another page, to a router without keys.

        ``own_only``: listed origins do not count, as where the fleet is administered.
        """
        if origin is None or (_on_this_machine(origin) if own_only else self.allows(origin)):
            return
        raise NotAllowed(
            f"without an API key this router serves pages of this machine only, not of '{origin[:100]}'; "
            "make a key: allsorts key create, or list the page's origin in http.cors_origins"
        )


def _checked(origin: str) -> str:
    parts = urlsplit(origin)
    if not (parts.scheme and parts.netloc) or parts.path or parts.query or "*" in origin:
        raise ConfigError(
            f"http.cors_origins: '{origin}' is no origin; write scheme and host, such as https://chat.example.org "
            "(there is no *: any page of the web could use a router without keys)"
        )
    return origin.lower()


def _on_this_machine(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and (is_loopback(host) or host.endswith(".localhost"))
