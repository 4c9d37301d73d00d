"""What we add to an answer, in every dialect that has room for it: who gave it, and every move on the way."""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from router.domain.answer import AnswerHead, Continuation


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """The answer went on elsewhere after ``at_token`` tokens."""

    from_worker: str
    to_worker: str
    from_quantization: str
    to_quantization: str
    at_token: int
    reason: str


class Disclosure(msgspec.Struct, frozen=True, kw_only=True):
    """``worker`` and ``quantization`` are those that finished; ``ttft_s`` is from receipt, at the end of a stream."""

    worker: str
    quantization: str
    continuations: list[Move]
    ttft_s: float | UnsetType = UNSET


def disclosure(head: AnswerHead, moves: Sequence[Continuation], ttft_s: float | None = None) -> Disclosure:
    """Of one answer."""
    last = moves[-1] if moves else None
    return Disclosure(
        worker=last.to_node if last else head.node,
        quantization=last.to_quantization if last else head.quantization,
        continuations=[
            Move(
                from_worker=move.from_node,
                to_worker=move.to_node,
                from_quantization=move.from_quantization,
                to_quantization=move.to_quantization,
                at_token=move.at_token,
                reason=move.reason,
            )
            for move in moves
        ],
        ttft_s=UNSET if ttft_s is None else round(ttft_s, 6),
    )
