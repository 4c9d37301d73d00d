"""An answer whose last word never came is not waited for: the worker's own count gives it away."""

import pytest

from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Delta
from protos.contract.worker import Load
from router.domain.clock import ManualClock
from router.domain.stream import AttemptEvent, SessionLost
from router.sessions.session import WorkerSession
from router.sessions.watchdog import Liveness, forgotten


def test_what_the_worker_counts_is_held_against_what_is_open() -> None:
    """Running and waiting together; a worker that has more than we know of has not forgotten anything."""

    def liveness(load: Load) -> Liveness:
        return Liveness(now=10.0, last_heard=10.0, progress_at=10.0, open_attempts=3, load=load)

    assert forgotten(liveness(Load(running=2, waiting=1))) == 0
    assert forgotten(liveness(Load(running=1, waiting=1))) == 1
    assert forgotten(liveness(Load(running=9))) == 0
    assert forgotten(liveness(Load())) == 3


def test_what_the_worker_had_not_heard_of_when_it_counted_is_not_forgotten() -> None:
    """A worker that is behind with its reading has lost nothing."""
    for unseen, lost in ((0, 3), (1, 2), (3, 0), (9, 0)):
        seen = Liveness(now=9.0, last_heard=9.0, progress_at=9.0, open_attempts=5, load=Load(running=2), unseen=unseen)
        assert forgotten(seen) == lost


@pytest.mark.asyncio
async def test_the_most_silent_attempt_is_lost_first_and_alone() -> None:
    """The one that still speaks keeps its stream; what the lost one says later goes nowhere."""
    clock = ManualClock()
    session = WorkerSession(session_id=1, worker_id=WorkerId("w"), clock=clock)
    heard: dict[str, list[AttemptEvent]] = {"a": [], "b": []}
    for name, events in heard.items():
        session.open((name, 1), events.append)
    clock.advance(5.0)
    session.heard()
    assert session.deliver(("b", 1), Delta(request_id=RequestId("b"), attempt=1, position=0, text="x", token_count=1))
    assert session.silent_attempts(clock.now() - 3.0) == [("a", 1)]
    session.lose(("a", 1), "forgotten")
    session.lose(("a", 1), "forgotten")
    assert [type(event) for event in heard["a"]] == [SessionLost]
    assert [event.breach for event in heard["a"] if isinstance(event, SessionLost)] == [True]
    assert [type(event) for event in heard["b"]] == [Delta]
    assert not session.deliver(("a", 1), Delta(request_id=RequestId("a"), attempt=1, position=0))
    assert session.open_attempts == 1
    assert session.silent_attempts(clock.now() + 1.0) == [("b", 1)]
