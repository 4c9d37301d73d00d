"""The chaos table counts what clients saw: it must notice every lost, doubled and foreign token."""

import random

import pytest

from loadtest.chaos.answers import simulated_answer, simulated_wrong
from loadtest.chaos.crowd import Crowd, real_tokens
from loadtest.chaos.moment import NEWCOMER_TOKENS, Moment, choose, newcomers_go_to, seen
from loadtest.chaos.rows import Placement, Row, failed_row, make_row, merged, stop_of
from loadtest.chaos.streams import Stream
from loadtest.chaos.waiting import NotReached, until

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


def test_a_stall_above_its_bound_says_whose_it_was() -> None:
    """So that it can be followed through the logs."""
    slow, quick = stream(RIGHT, sent_at=4.0, times=(5.0, 9.0)), stream(RIGHT, sent_at=4.0, times=(5.0, 5.5))
    slow.request_id, slow.worker, slow.moves = "r7", "sim-1", [{"to_worker": "sim-2", "at_token": 3}]
    row = make_row(
        fault="f", engine="e", router="uvicorn", streams=[quick, slow], tokens_wrong=0, struck_at=6.0,
        fails_by_design=False, stop=None, expected={"longest_stall_s": 2.0}, notes={},
    )  # fmt: skip
    assert row.misses == ["longest_stall_s 3.00 above 2 (r7 of 12 tokens, sent at -2.00 s, sim-1, to sim-2 at token 3)"]


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


def at(worker: str, events: int, *, max_tokens: int = TOKENS, ended: bool = False, error: str = "") -> Stream:
    """A stream that its client has heard so much of."""
    return Stream(
        model="m",
        prompt=PROMPT,
        max_tokens=max_tokens,
        worker=worker,
        event_times=[float(number) for number in range(events)],
        finish_reason="length" if ended else "",
        error=error,
    )


def test_the_moment_to_strike_is_read_off_what_clients_have_heard_of_the_victim() -> None:
    """Accepted without a word is prefilling; some words and less than half of them is mid-answer."""
    streams = [
        at("", 0),  # not placed yet
        at("victim", 0),
        at("victim", 0, error="it broke"),
        at("victim", 1),  # may be its only word for long
        at("victim", 2),
        at("victim", TOKENS // 2 - 1),
        at("victim", TOKENS // 2),  # might end before anybody notices
        at("victim", TOKENS, ended=True),
        at("other", 3),
        at("victim", 0, max_tokens=NEWCOMER_TOKENS),
        at("victim", 3, max_tokens=NEWCOMER_TOKENS, ended=True),
        at("other", 3, max_tokens=NEWCOMER_TOKENS, ended=True),
    ]
    found = seen(streams, "victim")
    assert found.at(Moment.PREFILL) == 1
    assert found.at(Moment.MID_STREAM) == 2
    assert choose(streams, ["other", "victim"], Moment.MID_STREAM, 2) == "victim"
    assert choose(streams, ["other", "victim"], Moment.MID_STREAM, 3) == ""
    assert choose(streams, ["other"], Moment.MID_STREAM, 1) == "other"


def test_where_newcomers_go_is_where_the_last_ones_went_and_nowhere_while_they_differ() -> None:
    """Whoever served one of them holds their text, too, and the next may follow."""

    def went(*workers: str) -> str:
        streams = [at(worker, 0, max_tokens=NEWCOMER_TOKENS) for worker in workers]
        return newcomers_go_to([*streams, at("elsewhere", 3), at("", 0, max_tokens=NEWCOMER_TOKENS)], "m", 2)

    assert went("a", "b", "b") == "b"
    assert went("b", "a") == ""
    assert went("a") == ""
    assert newcomers_go_to([at("a", 0, max_tokens=NEWCOMER_TOKENS)] * 2, "another model", 2) == ""


def test_real_answers_are_as_long_as_this_machine_needs_to_be_caught_writing() -> None:
    """A machine twice as fast is given twice as much to write, within bounds."""
    assert real_tokens(0.1) == 80
    assert real_tokens(0.05) == 160
    assert real_tokens(10.0) == 64
    assert real_tokens(0.001) == 384


async def test_a_state_that_does_not_come_is_one_line_that_says_what_there_was_instead() -> None:
    crowd = Crowd(None, "", random.Random(1))  # type: ignore[arg-type]
    crowd.streams.append(at("victim", 3, error="it broke"))
    with pytest.raises(NotReached, match=r"7 streams: 0 of 1 unanswered, 1 failed.*it broke.*: not within"):
        await crowd.until(lambda: False, 0.01, lambda: f"7 streams: {crowd}")


async def test_what_can_never_come_ends_the_wait_at_once() -> None:
    """A process that died while it was waited for is named, not its absence after two minutes."""

    async def never() -> bool:
        return False

    def check() -> None:
        raise NotReached("sim-1 ended while starting")

    with pytest.raises(NotReached, match="ended while starting"):
        await until(never, 120.0, "the workers are ready", check)


def test_a_row_that_did_not_come_to_its_end_is_missed_by_that_line_alone() -> None:
    """Its zeros would otherwise pass for a fault that hurt nobody."""
    failed = Row.from_json(failed_row("drain", "simulated", "serve", "no newcomer came: not within 30 s").as_json())
    assert failed.misses == ["no newcomer came: not within 30 s"]
