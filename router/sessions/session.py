"""One worker's session with this router replica: a lease, a command queue and a table of open attempts.

The reader (``handle``) runs once per message and does no I/O. One writer task drains the command queue. The
watchdog measures silence, round trips and engine progress: an engine can hang under a live event loop.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator

import structlog

from protos.contract.commands import Abort, Generate, Ping, RouterCommand
from protos.contract.ids import AttemptKey, WorkerId
from protos.contract.stream import Returned
from protos.contract.worker import Load
from router.domain.clock import Clock
from router.domain.stream import AttemptEvent, SessionLost
from router.fleet.session import Sink

log = structlog.get_logger()

MAX_OUTBOX = 4096
"""Commands that may wait for a worker that does not read; past it, the session is lost."""


class WorkerSession:
    """What the rest of the router holds of a connected worker."""

    def __init__(self, *, session_id: int, worker_id: WorkerId, clock: Clock) -> None:
        self.session_id = session_id
        self.worker_id = worker_id
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.last_heard = clock.now()
        self.progress_at = clock.now()
        self.longest_step_s = 0.0  # lately: it fades with each load report
        self.valid_until = math.inf  # monotonic second at which the certificate it stands on ends
        self.strays = 0  # events of attempts that nobody waits for: dropped
        self.joins = False  # the worker reads commands that follow others
        self._clock = clock
        self._sequence = 0
        self._outbox: deque[tuple[int, RouterCommand]] = deque()
        self._wake = asyncio.Event()
        self._sinks: dict[AttemptKey, Sink] = {}
        self._spoke_at: dict[AttemptKey, float] = {}  # when each open attempt was last spoken of
        self._progress: tuple[int, int] = (-1, -1)
        self._pings: dict[int, float] = {}

    # -- commands down -----------------------------------------------------------------------------

    def send(self, command: RouterCommand) -> int:
        """Queue a command; returns its sequence number. On an ended session it goes nowhere."""
        self._sequence += 1
        if not self.ended.done():
            self._outbox.append((self._sequence, command))
            self._wake.set()
            if len(self._outbox) > MAX_OUTBOX:
                self.end(f"the worker does not read: {MAX_OUTBOX} commands wait")
        return self._sequence

    async def next_commands(self) -> Iterator[tuple[int, RouterCommand]]:
        """Everything queued, each with its sequence number, waiting until there is something. What is not taken yet can
        still be called back.
        """
        await self._wake.wait()
        self._wake.clear()
        return self._taken()

    def _taken(self) -> Iterator[tuple[int, RouterCommand]]:
        while self._outbox:
            yield self._outbox.popleft()

    def taken_while(self, goes: Callable[[RouterCommand], bool]) -> Iterator[tuple[int, RouterCommand]]:
        """What is queued, up to the first command that does not go."""
        while self._outbox and goes(self._outbox[0][1]):
            yield self._outbox.popleft()

    def ping(self) -> None:
        """Ask for a sign of life; its answer also measures the round trip."""
        sequence = self.send(Ping(sequence=self._sequence + 1))
        if len(self._pings) < 16:  # of those that go unanswered, the first tell since when
            self._pings[sequence] = self._clock.now()

    def pong(self, sequence: int) -> float | None:
        """Round trip of an answered ping, in seconds; None for one never sent."""
        sent = self._pings.pop(sequence, None)
        if sent is None:
            return None
        self._pings = {later: at for later, at in self._pings.items() if later > sequence}
        return self._clock.now() - sent

    def deaf_for(self) -> float:
        """Seconds since the first ping that is not answered; 0 when all are."""
        return self._clock.now() - min(self._pings.values(), default=self._clock.now())

    # -- attempts ------------------------------------------------------------------------------------

    def open(self, key: AttemptKey, sink: Sink) -> None:
        """Deliver this attempt's events to ``sink``; on an ended session it hears SessionLost at once."""
        if self.ended.done():
            sink(SessionLost(request_id=key[0], attempt=key[1], reason=self.ended.result()))
            return
        if not self._sinks:
            self.progress_at = self._clock.now()
        self._sinks[key] = sink
        self._spoke_at[key] = self._clock.now()

    def close(self, key: AttemptKey) -> None:
        """Stop delivering; what still comes for the attempt is dropped."""
        self._sinks.pop(key, None)
        self._spoke_at.pop(key, None)

    @property
    def open_attempts(self) -> int:
        """Attempts that wait for output here."""
        return len(self._sinks)

    def deliver(self, key: AttemptKey, event: AttemptEvent) -> bool:
        """Hand an event to its attempt; False when nobody waits for it (it was aborted or moved)."""
        sink = self._sinks.get(key)
        if sink is None:
            return False
        self._spoke_at[key] = self.last_heard
        sink(event)
        return True

    def lose_attempts(self, reason: str) -> None:
        """Every open attempt hears SessionLost; the session itself may go on."""
        for (request_id, attempt), sink in self._take_sinks().items():
            sink(SessionLost(request_id=request_id, attempt=attempt, reason=reason))

    def silent_attempts(self, since: float) -> list[AttemptKey]:
        """Open attempts of which nothing was heard since then, the most silent first."""
        silent = [(at, key) for key, at in self._spoke_at.items() if at < since]
        return [key for _, key in sorted(silent)]

    def lose(self, key: AttemptKey, reason: str) -> None:
        """The worker left one open attempt without an end: it hears SessionLost, and nobody listens to it again."""
        sink = self._sinks.get(key)
        if sink is not None:
            self.close(key)
            sink(SessionLost(request_id=key[0], attempt=key[1], reason=reason, breach=True))

    def give_back(self, reason: str) -> None:
        """Every open attempt hears Returned: the worker leaves in good order, its streams move."""
        for (request_id, attempt), sink in self._take_sinks().items():
            sink(Returned(request_id=request_id, attempt=attempt, reason=reason))

    def _take_sinks(self) -> dict[AttemptKey, Sink]:
        sinks, self._sinks = self._sinks, {}
        self._spoke_at.clear()
        return sinks

    def abort(self, key: AttemptKey) -> None:
        """Tell the worker to stop an attempt and forget it here. What was not sent yet is called back."""
        self.close(key)
        stop = Abort(request_id=key[0], attempt=key[1])
        for place, (sequence, command) in enumerate(self._outbox):
            if isinstance(command, Generate) and (command.job.request_id, command.job.attempt) == key:
                self._outbox[place] = (sequence, stop)
                return
        self.send(stop)

    # -- liveness -------------------------------------------------------------------------------

    @property
    def expired(self) -> bool:
        """Whether the certificate it stands on has ended."""
        return self._clock.now() >= self.valid_until

    def heard(self) -> None:
        """A message arrived."""
        self.last_heard = self._clock.now()

    def progressed(self) -> None:
        """The engine produced output."""
        self.progress_at = self._clock.now()

    def note_load(self, load: Load) -> None:
        """Engine progress by its counters; an idle engine counts as making progress."""
        self.longest_step_s = max(load.last_step_s, 0.995 * self.longest_step_s)
        progress = (load.step_sequence, load.prefill_progress)
        busy = load.running or load.waiting or self._sinks
        if progress != self._progress or not busy:
            self._progress = progress
            self.progress_at = self._clock.now()

    def end(self, reason: str) -> None:
        """End the session, once: open attempts hear about it."""
        if self.ended.done():
            return
        self.ended.set_result(reason)
        log.info(
            "session.ended",
            worker=self.worker_id,
            reason=reason,
            open_attempts=len(self._sinks),
            strays=self.strays,
        )
        self.lose_attempts(reason)
        self._wake.set()
