"""A worker's session at the router: every attempt hears how it ended, exactly once, whatever ends first."""

import pytest

from protos.contract.commands import Abort, Generate, Ping, Undrain
from protos.contract.ids import AttemptKey, RequestId, WorkerId
from protos.contract.request import Job
from protos.contract.stream import Accepted, Returned
from protos.contract.worker import Load
from router.domain.clock import ManualClock
from router.domain.stream import AttemptEvent, SessionLost
from router.sessions.session import MAX_OUTBOX, WorkerSession

KEY: AttemptKey = (RequestId("r"), 1)
OTHER: AttemptKey = (RequestId("s"), 1)
ACCEPTED = Accepted(request_id=RequestId("r"), attempt=1, prompt_tokens=7)


class Rig:
    """One session, and what its attempts hear."""

    def __init__(self) -> None:
        self.clock = ManualClock(now=100.0)
        self.session = WorkerSession(session_id=1, worker_id=WorkerId("w"), clock=self.clock)
        self.heard: dict[AttemptKey, list[AttemptEvent]] = {}

    def open(self, *keys: AttemptKey) -> None:
        for key in keys:
            self.session.open(key, self.heard.setdefault(key, []).append)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_commands_go_out_in_order_each_with_the_next_number(rig: Rig) -> None:
    first, second = rig.session.send(Undrain()), rig.session.send(Abort(request_id=KEY[0], attempt=1))
    told = list(await rig.session.next_commands())
    assert told == [(first, Undrain()), (second, Abort(request_id=KEY[0], attempt=1))]
    assert second == first + 1


async def test_a_request_that_is_aborted_before_it_was_sent_leaves_no_prompt_behind(rig: Rig) -> None:
    """A worker that reads slowly would otherwise keep the prompts of all whose clients have left."""
    jobs = [
        Job(request_id=RequestId(name), attempt=1, model="m", quantization="q", prompt="x" * 1000)
        for name in ("r", "s")
    ]
    first, second = (rig.session.send(Generate(job=job)) for job in jobs)
    rig.open(KEY, OTHER)
    rig.session.abort(KEY)
    assert [command for _, command in rig.session._outbox] == [
        Abort(request_id=RequestId("r"), attempt=1),
        Generate(job=jobs[1]),
    ]
    taken = await rig.session.next_commands()
    assert next(taken)[0] == first
    assert next(taken) == (second, Generate(job=jobs[1]))
    rig.session.abort(OTHER)  # sent: the worker must hear of it
    assert next(taken) == (second + 1, Abort(request_id=RequestId("s"), attempt=1))


async def test_an_event_reaches_its_attempt_and_nobody_else(rig: Rig) -> None:
    """Not the same request's next attempt either."""
    rig.open(KEY, OTHER)
    assert rig.session.deliver(KEY, ACCEPTED)
    assert not rig.session.deliver((KEY[0], 2), ACCEPTED)
    assert rig.heard == {KEY: [ACCEPTED], OTHER: []}


async def test_what_was_aborted_hears_nothing_more_and_its_worker_is_told(rig: Rig) -> None:
    rig.open(KEY)
    rig.session.abort(KEY)
    assert not rig.session.deliver(KEY, ACCEPTED)
    rig.session.end("the connection broke")
    assert rig.heard[KEY] == []
    assert [command for _, command in await rig.session.next_commands()] == [Abort(request_id=KEY[0], attempt=1)]


async def test_a_session_that_ends_tells_every_attempt_once(rig: Rig) -> None:
    rig.open(KEY, OTHER)
    rig.session.end("the connection broke")
    rig.session.end("twice")
    assert [[type(one) for one in events] for events in rig.heard.values()] == [[SessionLost], [SessionLost]]
    assert await rig.session.ended == "the connection broke"
    assert rig.session.open_attempts == 0


async def test_an_attempt_opened_on_an_ended_session_hears_so_at_once(rig: Rig) -> None:
    """Its worker left between the choice and the command."""
    rig.session.end("the connection broke")
    rig.open(KEY)
    (lost,) = rig.heard[KEY]
    assert isinstance(lost, SessionLost)
    assert lost.reason == "the connection broke"
    assert rig.session.send(Undrain()) == 1, "numbers go on, and nothing is sent"
    assert list(await rig.session.next_commands()) == []


async def test_a_worker_that_leaves_in_good_order_gives_everything_back(rig: Rig) -> None:
    """The session goes on: what drains may come back."""
    rig.open(KEY, OTHER)
    rig.session.give_back("it drains")
    assert [[type(one) for one in events] for events in rig.heard.values()] == [[Returned], [Returned]]
    rig.open((KEY[0], 2))
    assert rig.session.deliver((KEY[0], 2), ACCEPTED)


async def test_an_attempt_that_its_worker_forgot_is_lost_through_a_breach(rig: Rig) -> None:
    rig.open(KEY, OTHER)
    rig.clock.advance(5.0)
    rig.session.heard()
    rig.session.deliver(OTHER, ACCEPTED)
    assert rig.session.silent_attempts(since=102.0) == [KEY]
    rig.session.lose(KEY, "it forgot it")
    rig.session.lose(KEY, "twice")
    (lost,) = rig.heard[KEY]
    assert isinstance(lost, SessionLost)
    assert lost.breach


async def test_a_worker_that_reads_no_commands_loses_its_session_at_the_bound(rig: Rig) -> None:
    rig.open(KEY)
    for _ in range(MAX_OUTBOX + 1):
        rig.session.send(Undrain())
    assert "does not read" in await rig.session.ended
    assert len(rig.heard[KEY]) == 1


async def test_a_ping_measures_the_round_trip_and_since_when_nobody_answers(rig: Rig) -> None:
    rig.session.ping()
    rig.clock.advance(1.0)
    rig.session.ping()
    ((first, ping), (second, _)) = await rig.session.next_commands()
    assert ping == Ping(sequence=first), "the answer names its ping"
    rig.clock.advance(0.25)
    assert rig.session.deaf_for() == pytest.approx(1.25)
    assert rig.session.pong(second) == pytest.approx(0.25), "it answers the earlier one, too"
    assert rig.session.deaf_for() == 0.0
    assert rig.session.pong(first) is None
    assert rig.session.pong(999) is None


async def test_an_engine_makes_progress_while_its_counters_move_or_it_has_nothing_to_do(rig: Rig) -> None:
    """Ten thousand tokens of a prompt are one step: prefill counts as progress, too."""
    rig.open(KEY)
    steps = [(1, 0, 100.0), (1, 0, 100.0), (1, 512, 104.0), (1, 512, 104.0), (2, 512, 108.0)]
    for sequence, prefill, progressed_at in steps:
        rig.session.note_load(Load(running=1, step_sequence=sequence, prefill_progress=prefill))
        assert rig.session.progress_at == progressed_at, (sequence, prefill)
        rig.clock.advance(2.0)
    rig.session.close(KEY)
    rig.session.note_load(Load(step_sequence=2, prefill_progress=512))
    assert rig.session.progress_at == rig.clock.now()
