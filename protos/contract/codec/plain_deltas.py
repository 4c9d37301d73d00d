"""A step's deltas of plain text in columns: one list a field instead of one message a delta.

A delta has eighteen fields, and a token of plain text uses seven. To ask a message for each of them costs both ends
more than anything else they do with a token; a column is read and written at once.
"""

from collections.abc import Iterator, Sequence

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.ids import RequestId
from protos.contract.stream import Delta
from protos.contract.validation import OutOfBounds


def encode_plain(deltas: Sequence[Delta]) -> pb.PlainDeltas:
    """Plain deltas, in order."""
    return pb.PlainDeltas(
        request_ids=[one.request_id for one in deltas],
        attempts=[one.attempt for one in deltas],
        positions=[one.position for one in deltas],
        texts=[one.text for one in deltas],
        token_counts=[one.token_count for one in deltas],
        text_tokens=[one.text_tokens for one in deltas],
        id_counts=[len(one.token_ids) for one in deltas],
        token_ids=[token for one in deltas for token in one.token_ids],
    )


def decode_plain(columns: pb.PlainDeltas) -> list[Delta]:
    """The same, read. Raises OutOfBounds for columns of different lengths."""
    counts, ids = columns.id_counts, columns.token_ids
    if sum(counts) != len(ids):
        raise OutOfBounds(f"a step has {len(ids)} token ids where {sum(counts)} are announced")
    try:
        return [
            Delta(
                request_id=RequestId(request_id),
                attempt=attempt,
                position=position,
                text=text,
                token_ids=token_ids,
                token_count=token_count,
                text_tokens=text_tokens,
            )
            for request_id, attempt, position, text, token_count, text_tokens, token_ids in zip(
                columns.request_ids,
                columns.attempts,
                columns.positions,
                columns.texts,
                columns.token_counts,
                columns.text_tokens,
                _shares(list(ids), list(counts)),
                strict=True,
            )
        ]
    except ValueError as error:  # from zip
        raise OutOfBounds("the columns of a step have different lengths") from error


def _shares(ids: list[int], counts: list[int]) -> Iterator[tuple[int, ...]]:
    place = 0
    for count in counts:
        yield (ids[place],) if count == 1 else tuple(ids[place : place + count])
        place += count


def parts_of_plain(columns: pb.PlainDeltas, size: int) -> Iterator[pb.PlainDeltas]:
    """The same in messages of so many deltas each. Columns of different lengths are found as the parts are read."""
    place = 0
    for start in range(0, len(columns.request_ids), size):
        stop = start + size
        id_counts = columns.id_counts[start:stop]
        ids = sum(id_counts)
        yield pb.PlainDeltas(
            request_ids=columns.request_ids[start:stop],
            attempts=columns.attempts[start:stop],
            positions=columns.positions[start:stop],
            texts=columns.texts[start:stop],
            token_counts=columns.token_counts[start:stop],
            text_tokens=columns.text_tokens[start:stop],
            id_counts=id_counts,
            token_ids=columns.token_ids[place : place + ids],
        )
        place += ids
