"""Plays sessions in one process: on schedule (open loop), or one after the other by each user (closed loop).

In an open loop a request is sent when it is due, whatever became of those before it, so a slow server is not spared
the load that it delays, and a late first token counts from when the request was due: no coordinated omission.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import gevent
from gevent.pool import Pool

from loadtest.locust.endpoint.client import UNFINISHED, Endpoint
from loadtest.locust.endpoint.conversation import Conversation, sample_of
from loadtest.locust.options import Options
from loadtest.locust.sample import Sample
from loadtest.locust.workloads import WORKLOADS
from loadtest.locust.workloads.sessions import Session, Sizes
from loadtest.locust.workloads.trace import from_trace

NAP_S = 0.25
"""How often who waits looks whether the run is over."""


@dataclass(frozen=True, slots=True)
class Share:
    """Of the sessions, this process plays those whose number leaves ``index`` when divided by ``count``."""

    index: int = 0
    count: int = 1


class Conductor:
    """One run in one process. ``record`` hears of every request that ended."""

    def __init__(
        self,
        options: Options,
        endpoint: Endpoint,
        *,
        model: str,
        refused: frozenset[str],
        share: Share,
        began: float,
        record: Callable[[Sample], None],
    ) -> None:
        self._options = options
        self._endpoint = endpoint
        self._model = model
        self._refused = refused
        self._share = share
        self._began = began
        self._record = record
        self._shape = options.load_shape
        self._slo = options.slo.as_told() if options.tell_slo else None
        self._playing = Pool()
        self._closed: Iterator[Session] | None = None
        self._open_taken = False
        self.in_flight = 0
        self.unsent = 0  # due while max_in_flight were open
        self.over = False  # nothing more is begun

    @property
    def idle(self) -> bool:
        """Nothing more will be sent, and everything sent is answered."""
        return self.over and not self.in_flight

    def now(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._began

    def run(self, sessions: Callable[[random.Random, Sizes], Iterator[Session]] | None) -> None:
        """A locust user's whole life. None: the workload of the options."""
        if self._options.closed:
            self._run_closed(sessions)
        elif not self._open_taken:  # one schedule a process, however many users it has
            self._open_taken = True
            self._run_open(sessions)

    def cut_off(self) -> None:
        """End what still runs: the time for it is over."""
        self.over = True
        self._playing.kill(block=True, timeout=5.0)

    # -- open loop -------------------------------------------------------------------------------------

    def _run_open(self, sessions: Callable[[random.Random, Sizes], Iterator[Session]] | None) -> None:
        for session, due_s in self._due(sessions):
            if not self._wait_until(due_s):
                break
            if self.in_flight >= self._options.max_in_flight:
                self.unsent += 1
                continue
            self._playing.spawn(self._play, session, due_s)
            gevent.sleep(0)  # it sends before the next is looked at, and counts as in flight, however late this loop is
        self._wait_until(self._shape.length_s)
        self.over = True
        self._playing.join()

    def _due(
        self, sessions: Callable[[random.Random, Sizes], Iterator[Session]] | None
    ) -> Iterator[tuple[Session, float]]:
        """Sessions of this share with their seconds, until the shape's end."""
        timed = sessions is None and self._options.trace is not None
        for session in self._mine(sessions):
            due_s = session.at if timed else self._shape.due_s(session.at)
            if due_s is None or due_s >= self._shape.length_s:
                return
            yield session, due_s

    def _wait_until(self, due_s: float) -> bool:
        """False: the run was ended meanwhile."""
        while not self.over and (left := due_s - self.now()) > 0:
            gevent.sleep(min(left, NAP_S))
        return not self.over

    # -- closed loop -----------------------------------------------------------------------------------

    def _run_closed(self, sessions: Callable[[random.Random, Sizes], Iterator[Session]] | None) -> None:
        if self._closed is None:
            self._closed = self._mine(sessions)
        for session in self._closed:
            if self.over or self.now() >= self._shape.length_s:
                break
            self._play(session, None)
        self.over = self.over or self.now() >= self._shape.length_s

    # -- both ------------------------------------------------------------------------------------------

    def _mine(self, sessions: Callable[[random.Random, Sizes], Iterator[Session]] | None) -> Iterator[Session]:
        rng = random.Random(self._options.seed)
        if sessions is None and self._options.trace is not None:
            found = from_trace(self._options.trace, self._options.speed_up, rng, self._options.sizes)
        else:
            found = (sessions or WORKLOADS[self._options.workload])(rng, self._options.sizes)
        return islice(found, self._share.index, None, self._share.count)

    def _play(self, session: Session, due_s: float | None) -> None:
        """All turns, until one fails or the run is over. ``due_s`` None: each is due when it is sent."""
        talk = Conversation(
            session, self._model, self._options.temperature, self._options.ignore_eos, self._refused, self._slo
        )
        for place, turn in enumerate(session.turns):
            at = self.now() if due_s is None else due_s
            self.in_flight += 1
            try:
                heard = self._endpoint.stream("/chat/completions", talk.request(turn))
            finally:
                self.in_flight -= 1
            at = heard.sent - self._began if due_s is None else at
            self._record(sample_of(heard, session, place, due_s=at, began=self._began))
            if heard.code == UNFINISHED:
                raise gevent.GreenletExit
            if heard.error or place + 1 == len(session.turns):
                return
            talk.take(heard)
            due_s = self.now() + session.turns[place + 1].think_s
            if due_s >= self._shape.length_s or not self._wait_until(due_s):
                return
            due_s = None if self._options.closed else due_s
