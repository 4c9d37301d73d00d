"""What a row of the cluster's faults counts, and when it is as it must be."""

from loadtest.chaos.answers import simulated_answer, simulated_wrong
from loadtest.chaos.streams import Stream
from loadtest.cluster.__main__ import Row, count_streams, merged
from loadtest.cluster.faults import faults
from loadtest.cluster.judge import awq_wrong

BY_NAME = {one.name: one for one in faults()}


def stream(tokens: int = 4, *, moved: bool = False, broke_after: int | None = None, wrong: bool = False) -> Stream:
    one = Stream(model="m", prompt="some words", max_tokens=tokens)
    said = simulated_answer(one.prompt, tokens)
    one.texts = ["nonsense ", *said[1:]] if wrong else said
    one.event_times, one.finish_reason, one.completion_tokens = [1.0] * tokens, "length", tokens
    one.moves = [{"at_token": 1}] if moved else []
    if broke_after is not None:
        one.texts, one.event_times = said[:broke_after], [1.0] * broke_after
        one.finish_reason, one.error = "", "ClientPayloadError"
    return one


def row(fault: str, *streams: Stream) -> Row:
    found = Row(fault=fault, streams=len(streams))
    count_streams(found, list(streams), BY_NAME[fault])
    found.tokens_wrong = sum(simulated_wrong(one) for one in streams)
    return found


def test_streams_that_end_as_they_should_make_a_good_row() -> None:
    """Moved or not."""
    found = row("raylet killed", stream(), stream(moved=True))
    assert (found.completed, found.continued, found.tokens_wrong, found.good) == (2, 1, 0, True)


def test_a_broken_stream_is_by_design_only_of_a_killed_router_and_in_the_middle_of_its_answer() -> None:
    """One that had not begun is answered by the next replica."""
    assert row("router replica killed", stream(), stream(broke_after=2)).good
    assert not row("router replica killed", stream(), stream(broke_after=0)).good
    found = row("raylet killed", stream(), stream(broke_after=2))
    assert (found.failed_by_design, found.good, found.errors) == (0, False, ["ClientPayloadError"])


def test_a_wrong_token_makes_a_bad_row() -> None:
    """Though every stream ended."""
    found = row("controller killed", stream(), stream(wrong=True))
    assert found.completed == 2
    assert found.tokens_wrong
    assert not found.good


def test_rows_of_two_parts_make_one_table() -> None:
    """In the faults' order; a fault that was run again has its fresh row."""
    kept = [Row(fault="raylet killed", streams=1), Row(fault="Redis flushed", streams=1)]
    found = merged(kept, [Row(fault="Redis flushed", streams=2)], [one.name for one in faults()])
    assert [(one.fault, one.streams) for one in found] == [("Redis flushed", 2), ("raylet killed", 1)]


def test_vllms_words_are_those_it_said_alone() -> None:
    """Any other counts, and so does a count that is not what came."""
    one = Stream(model="awq", prompt="p", max_tokens=3)
    one.texts, one.event_times, one.finish_reason, one.completion_tokens = ["the ", "sea is"], [1.0, 2.0], "length", 3
    assert awq_wrong(one, "the sea is") == 0
    assert awq_wrong(one, "the sea was") == 1
    one.completion_tokens = 2
    assert awq_wrong(one, "the sea is") == 1
    one.finish_reason, one.error = "", "broke"
    assert awq_wrong(one, "the sea is deep") == 0
    assert awq_wrong(one, "a sea") == 1
