"""What a store needs underneath: transactions over named entries, and bounded logs."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from router.errors import AllsortsError

T = TypeVar("T")


class StoreFailed(AllsortsError):
    """The backend did not do it: what, where, what to do; one line. Nothing was changed."""

    code = "store_unavailable"
    kind = "service_unavailable"
    http_status = 503
    retryable = True


class Transaction(Protocol):
    """Reads see this transaction's own writes. Everything in it happens, or nothing does."""

    def get(self, kind: str, key: str) -> bytes | None:
        """The value; None when there is none."""
        ...

    def put(self, kind: str, key: str, value: bytes) -> None:
        """Write or replace a value."""
        ...

    def delete(self, kind: str, key: str) -> bool:
        """Remove a value; False when there was none."""
        ...

    def items(self, kind: str) -> list[tuple[str, bytes]]:
        """Every entry of a kind, by key."""
        ...

    def append(self, log: str, value: bytes, keep: int) -> None:
        """Add to a log that keeps its newest ``keep`` entries."""
        ...

    def tail(self, log: str, limit: int) -> list[bytes]:
        """The newest entries of a log, oldest of them first."""
        ...


class Backend(Protocol):
    """Synchronous; ``Store`` calls it from a thread of its own."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run ``work`` atomically; an exception in it undoes everything. It may run more than once.

        Raises StoreFailed when the backend is not there, is locked for too long, or is full.
        """
        ...

    def refresh(self) -> int:
        """A number that differs once anybody has written: cheap, so that it may be asked for several times a second.
        A backend that can lose what it held gets it back here, from what this process remembers.

        Raises StoreFailed when the backend is not there.
        """
        ...

    def post(self, board: str, key: str, value: bytes, ttl_s: float) -> None:
        """Leave a notice that everybody sees until it expires. Notices are no decisions: they are lost with the
        backend, and writing one changes no ``refresh``. Raises StoreFailed.
        """
        ...

    def posts(self, board: str) -> list[tuple[str, bytes]]:
        """The notices on a board, by key. Raises StoreFailed."""
        ...

    def withdraw(self, board: str, key: str) -> None:
        """Take a notice down. Raises StoreFailed."""
        ...

    def spend(self, bucket: str, amount: float, per_minute: float, max_debt_s: float) -> float:
        """Take from a bucket that all replicas share (``router.domain.token_bucket``), into debt if need be; its level.
        Like a notice, it is lost with the backend: then it is full. Raises StoreFailed.
        """
        ...

    def close(self) -> None:
        """Let go of file or connection."""
        ...
