"""What a router replica remembers of a store that others keep: enough to read while it is away, and to give it back.

A Redis that loses its data (flushed, restarted without its file) has no version. Whoever remembers the store at a
version writes it back at that one. Versions only grow, so of several replicas the one that saw most wins.
"""

from dataclasses import dataclass, field

from router.state.backend import StoreFailed

Entries = dict[str, dict[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """All entries as they were at ``version``; 0: nothing was ever read."""

    version: int = 0
    entries: Entries = field(default_factory=dict)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether there is anything to give back."""
        return self.version > 0 and any(self.entries.values())


class MirrorReader:
    """A transaction on the mirror: it reads, and refuses to write."""

    def __init__(self, mirror: Mirror, why: str) -> None:
        self._entries = mirror.entries
        self._why = why

    def get(self, kind: str, key: str) -> bytes | None:
        """As it was last seen."""
        return self._entries.get(kind, {}).get(key)

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        """As they were last seen."""
        return sorted(self._entries.get(kind, {}).items())

    def tail(self, log: str, limit: int) -> list[bytes]:  # noqa: ARG002 - a transaction's signature
        """Logs are not remembered. Raises StoreFailed."""
        raise StoreFailed(self._why)

    def put(self, kind: str, key: str, value: bytes) -> None:  # noqa: ARG002
        """Raises StoreFailed."""
        raise StoreFailed(self._why)

    def delete(self, kind: str, key: str) -> bool:  # noqa: ARG002
        """Raises StoreFailed."""
        raise StoreFailed(self._why)

    def append(self, log: str, value: bytes, keep: int) -> None:  # noqa: ARG002
        """Raises StoreFailed."""
        raise StoreFailed(self._why)
