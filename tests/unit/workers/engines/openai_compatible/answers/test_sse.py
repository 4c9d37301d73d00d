"""Server-sent events from bytes."""

import pytest

from workers.engines.openai_compatible.answers.sse import MAX_LINE_BYTES, SseError, SseParser

STREAM = (
    b": ping\r\n\r\nevent: message\r\ndata:one\r\n\r\n"
    b"data: two\ndata: lines\n\nid: 7\nretry: 10\n\nevent: error\ndata: boom\n\ndata: [DONE]\n\n"
)
EVENTS = [(b"one", False), (b"two\nlines", False), (b"boom", True), (b"[DONE]", False)]


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_events_are_the_same_wherever_the_bytes_are_cut(cut: int) -> None:
    parser = SseParser()
    assert parser.feed(STREAM[:cut]) + parser.feed(STREAM[cut:]) == EVENTS


def test_events_come_byte_by_byte() -> None:
    parser = SseParser()
    assert [event for byte in STREAM for event in parser.feed(bytes([byte]))] == EVENTS


@pytest.mark.parametrize(
    ("part", "says"), [(b"x" * 1000, "a line of more than"), (b"data: " + b"x" * 1000 + b"\n", "an event of more than")]
)
def test_an_event_without_an_end_has_a_bound(part: bytes, says: str) -> None:
    """One endless line, and endless lines of one event."""
    parser = SseParser()
    for _ in range(MAX_LINE_BYTES // 1006):
        assert parser.feed(part) == []
    with pytest.raises(SseError, match=says):
        parser.feed(part * 10)
