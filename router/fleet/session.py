"""A worker's session as the rest of the router sees it: a lease, a way for commands, a table of open attempts."""

from collections.abc import Callable
from typing import Protocol

from protos.contract.commands import RouterCommand
from protos.contract.ids import AttemptKey, WorkerId
from router.domain.stream import AttemptEvent

Sink = Callable[[AttemptEvent], None]


class Session(Protocol):
    """Open from hello until ``end``; ``router.sessions.session.WorkerSession`` is one, the simulator has its own."""

    valid_until: float
    """Monotonic second at which the certificate it stands on ends; infinite without one."""

    last_heard: float
    """Monotonic second at which the worker last said anything."""

    @property
    def session_id(self) -> int:
        """Tells sessions of one worker apart."""
        ...

    @property
    def worker_id(self) -> WorkerId:
        """Who speaks."""
        ...

    @property
    def open_attempts(self) -> int:
        """Attempts that wait for output here."""
        ...

    def send(self, command: RouterCommand) -> int:
        """Queue a command; returns its sequence number. On an ended session it goes nowhere."""
        ...

    def open(self, key: AttemptKey, sink: Sink) -> None:
        """Deliver this attempt's events to ``sink``; on an ended session it hears SessionLost at once."""
        ...

    def close(self, key: AttemptKey) -> None:
        """Stop delivering; what still comes for the attempt is dropped."""
        ...

    def abort(self, key: AttemptKey) -> None:
        """Tell the worker to stop an attempt and forget it here."""
        ...

    def end(self, reason: str) -> None:
        """End it, once: open attempts are lost."""
        ...

    def give_back(self, reason: str) -> None:
        """Every open attempt is returned: the worker leaves in good order, its streams move."""
        ...

    def lose_attempts(self, reason: str) -> None:
        """Every open attempt is lost; the session itself may go on."""
        ...


class SessionEnder(Protocol):
    """Whoever can end a worker's session from the router's side."""

    def end_worker(self, worker_id: WorkerId, reason: str, *, permanent: bool) -> None:
        """End a worker's session; ``permanent`` tells it not to come back."""
        ...
