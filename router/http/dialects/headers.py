"""Headers of an answer: who gives it, and which fields of the request had no effect."""

from collections.abc import Sequence

from protos.contract.ids import RequestId
from router.domain.answer import AnswerHead, Continuation
from router.http.server.decoding import MAX_NAME_CHARS
from router.http.server.exchange import Headers

Header = tuple[bytes, bytes]


def answer_headers(
    request_id: RequestId, head: AnswerHead, rates: Headers, moves: Sequence[Continuation] = ()
) -> list[Header]:
    """Who answers; for a stream, who began to: its last event tells who finished."""
    last = moves[-1] if moves else None
    headers = [
        (b"x-request-id", request_id.encode()),
        (b"x-allsorts-worker", _value(last.to_node if last else head.node)),
        (b"x-allsorts-quantization", _value(last.to_quantization if last else head.quantization)),
        *rates,
    ]
    if moves:
        headers.append((b"x-allsorts-continued", b"%d" % len(moves)))
    return headers


def ignored_header(names: Sequence[str]) -> Header:
    """Fields that had no effect; also of an answer that is an error."""
    return b"x-allsorts-ignored", _value(", ".join(name[:MAX_NAME_CHARS] for name in names))


def _value(text: str) -> bytes:
    """Others chose this text; control characters have no business in a header."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text).encode()
