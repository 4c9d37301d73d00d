"""The chaos table counts what clients saw: it must notice every lost, doubled and foreign token."""

import pytest

from loadtest.chaos.answers import simulated_answer, simulated_wrong
from loadtest.chaos.rows import Placement, Row, make_row, merged, stop_of
from loadtest.chaos.streams import Stream

PROMPT = "Story 1: write about amber"
TOKENS = 12


def stream(
    tokens: list[str], *, sent_at: float = 0.0, times: tuple[float, ...] = (1.0, 2.0), ended: bool = True
) -> Stream:
    return Stream(
        model="m",
        prompt=PROMPT,
        max_tokens=TOKENS,
        sent_at=sent_at,
        event_times=list(times),
        texts=["".join(tokens)],
        finish_reason="length" if ended else "",
        completion_tokens=len(tokens) if ended else -1,
    )


RIGHT = simulated_answer(PROMPT, TOKENS)


@pytest.mark.parametrize(
    ("tokens", "wrong"),
    [
        (RIGHT, False),
        (RIGHT[:-1], True),  # the last one lost
        ([*RIGHT[:5], *RIGHT[6:]], True),  # one lost in the middle
        ([*RIGHT[:5], RIGHT[4], *RIGHT[5:]], True),  # one doubled
        ([*RIGHT[:5], " zebra", *RIGHT[6:]], True),  # one from elsewhere
    ],
)
def test_every_token_that_is_not_as_it_should_be_is_counted(tokens: list[str], wrong: bool) -> None:
    assert (simulated_wrong(stream(tokens)) > 0) is wrong


def test_usage_and_the_way_it_ended_count_too() -> None:
    """A right text with a wrong count, or that claims to have ended by itself, is wrong."""
    miscounted = stream(RIGHT)
    miscounted.completion_tokens += 1
    stopped = stream(RIGHT)
    stopped.finish_reason = "stop"
    assert simulated_wrong(miscounted) == 1
    assert simulated_wrong(stopped) == 1


def test_a_stream_that_broke_off_must_be_a_beginning_of_the_answer() -> None:
    assert simulated_wrong(stream(RIGHT[:4], ended=False)) == 0
    assert simulated_wrong(stream([*RIGHT[:3], " zebra"], ended=False)) == 1


def test_stalls_are_counted_from_the_strike_or_from_when_the_request_was_sent() -> None:
    """What was slow before the fault is none of its business."""
    slow_before = stream(RIGHT, times=(8.0, 10.5, 11.0))
    assert slow_before.longest_stall_s(since=10.0) == pytest.approx(0.5)
    newcomer = stream(RIGHT, sent_at=12.0, times=(15.0, 15.5))
    assert newcomer.longest_stall_s(since=10.0) == pytest.approx(3.0)


def test_placements_after_the_router_had_noticed_are_probes() -> None:
    """And those after the victim came back are neither."""
    at = [9.0, 10.2, 10.4, 12.0, 30.0]
    placements = [Placement(at=one, worker_id="victim") for one in at] + [Placement(at=10.9, worker_id="other")]
    stop = stop_of(placements, "victim", struck_at=10.0, noticed_at=11.0, until=20.0)
    assert stop.seconds == pytest.approx(0.4)
    assert stop.probes == 1


def test_a_row_says_when_its_victim_got_nothing_before_or_went_on_getting_after() -> None:
    """A worker that no newcomer went to anyway would pass for one that they stopped going to."""
    expected = {"placed_before": 1.0, "probes": 2.0}
    for before, probes, misses in ((1, 2, 0), (0, 2, 1), (1, 3, 1)):
        placements = [Placement(at=9.0 - n, worker_id="victim", newcomer=True) for n in range(before)]
        placements += [Placement(at=12.0 + n, worker_id="victim", newcomer=True) for n in range(probes)]
        placements.append(Placement(at=8.0, worker_id="victim"))  # one of the streams, not a newcomer
        row = make_row(
            fault="f", engine="e", router="uvicorn", streams=[stream(RIGHT)], tokens_wrong=0, struck_at=1.5,
            fails_by_design=False, stop=stop_of(placements, "victim", 10.0, 11.0, 20.0), expected=expected, notes={},
        )  # fmt: skip
        assert len(row.misses) == misses, row.misses


def test_only_a_fault_that_ends_the_router_excuses_a_failed_stream() -> None:
    """Elsewhere a stream that did not complete is a miss."""
    broken = stream(RIGHT[:4], ended=False)
    broken.error = "it broke"
    rows = [
        make_row(
            fault="f",
            engine="simulated",
            router="serve",
            streams=[broken, stream(RIGHT, times=(1.0, 9.0))],
            tokens_wrong=0,
            struck_at=5.0,
            fails_by_design=excused,
            stop=None,
            expected={},
            notes={},
        )
        for excused in (True, False)
    ]
    assert [row.failed_by_design for row in rows] == [1, 0]
    assert [bool(row.misses) for row in rows] == [False, True]
    assert all((row.streams, row.completed) == (2, 1) for row in rows)


def row(fault: str, *, tokens_wrong: int = 0) -> Row:
    return Row(
        fault=fault,
        engine="simulated",
        router="serve",
        streams=1,
        completed=1,
        continued=0,
        failed_by_design=0,
        tokens_wrong=tokens_wrong,
        longest_stall_s=0.1,
        stop_placing_s=None,
    )


def test_a_fault_that_was_run_again_replaces_its_rows_and_no_others() -> None:
    """In the table's order, and what was wrong with a kept row is still wrong."""
    kept = [Row.from_json(one.as_json()) for one in (row("drain", tokens_wrong=2), row("kill"))]
    rows = merged(kept, [row("kill", tokens_wrong=1)], ["kill", "hang", "drain"])
    assert [(one.fault, one.tokens_wrong) for one in rows] == [("kill", 1), ("drain", 2)]
    assert all(one.misses for one in rows)
