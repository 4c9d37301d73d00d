"""The authenticator of a router that only its own machine can reach: everyone is the local user."""

from protos.contract.addresses import is_loopback
from router.domain.principal import LOCAL, Principal, Scope
from router.errors import ConfigError, NotAllowed


class OpenAuthenticator:
    """Lets everyone in as ``LOCAL``. Give it the host the router listens on: it refuses any but loopback."""

    def __init__(self, host: str) -> None:
        if not is_loopback(host):
            raise ConfigError(
                f"without API keys the router listens on loopback only, not on {host}; "
                "make a key first: allsorts key create --name me --scopes serve,observe,admin"
            )

    async def authenticate(
        self,
        authorization: str | None,  # noqa: ARG002 - all may
        scope: Scope,  # noqa: ARG002
        *,
        counted: bool = True,  # noqa: ARG002 - no limits
    ) -> Principal:
        """The local user, whatever key the client sent."""
        return LOCAL

    def rate_headers(self, principal: Principal) -> tuple[tuple[bytes, bytes], ...]:  # noqa: ARG002 - no limits
        """None."""
        return ()

    def charge(self, principal: Principal, tokens: int) -> None:
        """No limits, nothing to count."""


def refuse_foreign_host(host: str | None) -> None:
    """Raises NotAllowed for a keyless request under another name than this machine's own.

    A web page can point its own domain at 127.0.0.1 and then counts as the same origin to the browser; its name in
    the Host header gives it away.
    """
    if host is None or is_loopback(host) or is_loopback(host.rpartition(":")[0]):
        return
    raise NotAllowed(
        f"without an API key this router answers only to localhost and 127.0.0.1, not to '{host[:100]}'; "
        "make a key: allsorts key create"
    )
