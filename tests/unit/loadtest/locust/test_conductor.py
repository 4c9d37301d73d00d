"""How sessions are played: on schedule whatever becomes of those before, or one after the other."""

import itertools
import random
import time
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.event import Event

from loadtest.locust.conductor import Conductor, Share
from loadtest.locust.endpoint.client import UNFINISHED
from loadtest.locust.endpoint.heard import Heard
from loadtest.locust.options import Options
from loadtest.locust.sample import Sample
from loadtest.locust.workloads.sessions import Session, Sizes, Turn

PATIENCE_S = 60.0


class HeldEndpoint:
    """Answers nothing until it is let go."""

    def __init__(self, *, held: bool = True) -> None:
        self.asked: list[dict[str, Any]] = []
        self.go = Event()
        if not held:
            self.go.set()

    def stream(self, path: str, body: dict[str, Any]) -> Heard:
        heard = Heard(sent=time.perf_counter())
        self.asked.append(body)
        try:
            self.go.wait()
        except gevent.GreenletExit:
            heard.failed(UNFINISHED, "cut off")
            return heard
        gevent.sleep(0)
        heard.answered(200, {})
        heard.event(b'{"choices":[{"delta":{"content":"Yes."}}]}', time.perf_counter())
        heard.done, heard.ended = True, time.perf_counter()
        return heard


def conductor(endpoint: HeldEndpoint, samples: list[Sample], share: Share | None = None, **options: Any) -> Conductor:
    given = {"url": "http://127.0.0.1:1", "rate": 200.0, "duration_s": 0.2, **options}
    return Conductor(Options(**given), endpoint, model="tiny", refused=frozenset(), share=share or Share(),
                     began=time.perf_counter(), record=samples.append)  # type: ignore[arg-type]  # fmt: skip


def every(turns: int = 1, gap: float = 1.0) -> Any:
    def sessions(_rng: random.Random, _sizes: Sizes) -> Iterator[Session]:
        for number in itertools.count(1):
            asks = tuple(Turn(text=f"{number}.{turn}", output_tokens=4) for turn in range(turns))
            yield Session(number=number, at=gap * number, kind="own", turns=asks)

    return sessions


def test_an_open_loop_sends_all_that_is_due_though_nothing_is_answered() -> None:
    """No coordinated omission: a server that hangs is offered the whole load, and its waits count from the schedule."""
    endpoint, samples = HeldEndpoint(), []
    one = conductor(endpoint, samples)
    with gevent.Timeout(PATIENCE_S):
        player = gevent.spawn(one.run, every())
        while not one.over:
            gevent.sleep(0.01)
        assert one.in_flight == len(endpoint.asked) == 39
        assert not samples
        endpoint.go.set()
        player.join()
    assert one.idle
    assert [round(sample.due_s, 3) for sample in sorted(samples, key=lambda it: it.due_s)] == [
        round(0.005 * number, 3) for number in range(1, 40)
    ]
    assert all(sample.ttft_s is not None and sample.ttft_s >= 0.2 - sample.due_s for sample in samples)


def test_what_is_due_beyond_the_bound_is_counted_and_not_sent() -> None:
    endpoint, samples = HeldEndpoint(), []
    one = conductor(endpoint, samples, max_in_flight=10)
    with gevent.Timeout(PATIENCE_S):
        player = gevent.spawn(one.run, every())
        while not one.over:
            gevent.sleep(0.01)
        endpoint.go.set()
        player.join()
    assert (len(samples), one.unsent) == (10, 29)


def test_processes_share_the_sessions_without_gap_or_overlap() -> None:
    asked: list[str] = []
    for index in range(3):
        endpoint, samples = HeldEndpoint(held=False), []
        with gevent.Timeout(PATIENCE_S):
            conductor(endpoint, samples, Share(index, 3)).run(every())
        asked += [body["messages"][0]["content"] for body in endpoint.asked]
    assert sorted(asked, key=float) == [f"{number}.0" for number in range(1, 40)]


def test_turns_follow_one_another_and_carry_the_answers() -> None:
    endpoint, samples = HeldEndpoint(held=False), []
    with gevent.Timeout(PATIENCE_S):
        conductor(endpoint, samples, duration_s=0.5, rate=2.0).run(every(turns=3, gap=0.5))
    roles = [[message["role"] for message in body["messages"]] for body in endpoint.asked]
    assert roles == [["user"], ["user", "assistant", "user"], ["user", "assistant", "user", "assistant", "user"]]
    assert [sample.turn for sample in samples] == [0, 1, 2]


def test_users_of_a_closed_loop_send_when_they_have_their_answer() -> None:
    endpoint, samples = HeldEndpoint(), []
    one = conductor(endpoint, samples, closed=3)
    with gevent.Timeout(PATIENCE_S):
        users = [gevent.spawn(one.run, every()) for _ in range(3)]
        gevent.sleep(0.05)
        assert len(endpoint.asked) == 3
        endpoint.go.set()
        gevent.joinall(users)
    assert one.over
    assert one.idle
    assert len({body["messages"][0]["content"] for body in endpoint.asked}) == len(samples) > 3


def test_what_still_runs_at_the_end_is_cut_off_and_counts() -> None:
    """A server that does not answer in time is not spared: what it left unanswered is not in time."""
    endpoint, samples = HeldEndpoint(), []
    one = conductor(endpoint, samples)
    with gevent.Timeout(PATIENCE_S):
        player = gevent.spawn(one.run, every())
        while not one.over:
            gevent.sleep(0.01)
        one.cut_off()
        player.join()
    assert one.idle
    assert [sample.code for sample in samples] == [UNFINISHED] * 39
