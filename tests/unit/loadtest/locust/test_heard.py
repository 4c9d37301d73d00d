"""What is read off a streamed answer, whoever gave it."""

import pytest

from loadtest.locust.endpoint.conversation import sample_of
from loadtest.locust.endpoint.heard import Heard
from loadtest.locust.workloads.sessions import Session, Turn

SESSION = Session(number=3, at=0.0, kind="azure-like", turns=(Turn(text="hello", output_tokens=4),))


def heard(*events: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Heard:
    one = Heard(sent=10.0)
    one.answered(status, headers or {})
    for place, event in enumerate(events):
        one.event(event, 10.5 + place)
    one.ended = 20.0
    return one


def test_tokens_come_from_usage_and_times_from_events_that_carry_output() -> None:
    """A delta may hold many tokens; a role, a finish reason or a usage is no token."""
    one = heard(
        b'{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}',
        b'{"id":"x","choices":[{"index":0,"delta":{"content":"Paris is the"}}]}',
        b'{"id":"x","choices":[{"index":0,"delta":{"content":" capital"}}]}',
        b'{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}',
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":5}}}',
        b"[DONE]",
    )
    sample = sample_of(one, SESSION, 0, due_s=1.0, began=9.0)
    assert (sample.prompt_tokens, sample.cached_tokens, sample.completion_tokens) == (9, 5, 4)
    assert (sample.events, sample.gaps_ms) == (2, [1000.0])
    assert (sample.sent_s, sample.first_s, sample.ended_s) == (1.0, 2.5, 11.0)
    assert sample.tpot_s == (11.0 - 2.5) / 3
    assert one.text == "Paris is the capital"
    assert sample.ok


def test_opening_a_connection_is_no_time_of_the_server_s() -> None:
    """Users wait for it all the same: TTFT counts from when the request was due."""
    one = heard(b'{"choices":[{"index":0,"delta":{"content":"Paris"}}]}', b"[DONE]")
    one.written = 10.2
    sample = sample_of(one, SESSION, 0, due_s=0.9, began=9.0)
    assert (sample.sent_s, sample.written_s, sample.first_s) == (1.0, 1.2, 1.5)
    assert sample.sent_ttft_s == pytest.approx(0.3)
    assert sample.ttft_s == pytest.approx(0.6)
    one.written = None  # no connection was had
    assert sample_of(one, SESSION, 0, due_s=0.9, began=9.0).written_s is None


def test_thoughts_and_tool_calls_are_output_but_no_text() -> None:
    one = heard(
        b'{"choices":[{"delta":{"reasoning_content":"hm"}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]}}]}',
        b'{"choices":[{"delta":{"reasoning":"hm"}}]}',
        b"[DONE]",
    )
    assert len(one.at) == 3
    assert one.text == ""
    assert one.calls == {0: {"id": "c", "name": "f", "arguments": "{}"}}


def test_who_answered_is_kept_and_the_last_word_of_a_move_counts() -> None:
    one = heard(
        b'{"choices":[{"delta":{"content":"a"}}]}',
        b'{"choices":[],"allsorts":{"worker":"b","quantization":"q4_0","continuations":[{"from_worker":"a"}],"ttft_s":0.25}}',
        b"[DONE]",
        headers={"x-allsorts-worker": "a", "x-allsorts-quantization": "q8_0", "x-request-id": "r1"},
    )
    sample = sample_of(one, SESSION, 0, due_s=0.0, began=0.0)
    assert (sample.worker, sample.quantization, sample.continuations) == ("b", "q4_0", 1)
    assert (sample.request_id, sample.server_ttft_s) == ("r1", 0.25)


def test_a_refusal_keeps_its_reason_and_is_a_shed_where_it_may_be_tried_again() -> None:
    for status, code, shed in ((503, "no_capacity", True), (429, "rate_limit_exceeded", True), (400, "bad", False)):
        one = heard(status=status)
        one.refused(b'{"error":{"message":"no","code":"' + code.encode() + b'"}}')
        sample = sample_of(one, SESSION, 0, due_s=0.0, began=0.0)
        assert (sample.code, sample.error, sample.shed, sample.ok) == (code, "no", shed, False)
    for body in (b"<html>", b'"text"', b"{}", b'{"error":"plain"}', b"\xff"):
        one = heard(status=500)
        one.refused(body)
        assert one.error
        assert one.code == "500"


def test_an_error_event_and_an_event_that_is_none_end_as_failures() -> None:
    broken = heard(b'{"error":{"message":"worker died","code":"worker_failed"}}')
    assert (broken.code, broken.error) == ("worker_failed", "worker died")
    for odd in (b"{", b'{"choices":[null]}', b'{"choices":7}', b'{"usage":{"completion_tokens":"4"}}'):
        assert heard(odd).code == "bad_event"


def test_json_is_judged_only_where_it_was_asked_for() -> None:
    asked = Session(number=0, at=0.0, kind="json-extraction", turns=SESSION.turns, response_format={"type": "x"})
    for text, valid in ((b'{\\"a\\": 1}', True), (b"[1]", False), (b"Sure!", False)):
        one = heard(b'{"choices":[{"delta":{"content":"' + text + b'"}}]}', b"[DONE]")
        assert sample_of(one, asked, 0, due_s=0.0, began=0.0).valid_json is valid
        assert sample_of(one, SESSION, 0, due_s=0.0, began=0.0).valid_json is None
