"""Log-probabilities as servers send them, in the chat's form and in that of completions. Pure."""

import math
from typing import Any

from protos.contract.stream import TokenLogprob, TopLogprob

MAX_TOKEN_ID = 2**31 - 1
LEAST = -1e4
"""For what has no finite logarithm; OpenAI says -9999 there."""


def logprobs_of(value: Any) -> tuple[TokenLogprob, ...]:
    """One entry a token; empty when nothing, or nothing of the kind, is told."""
    if not isinstance(value, dict):
        return ()
    if isinstance(value.get("content"), list):
        return tuple(
            TokenLogprob(
                **_entry(one), top=tuple(TopLogprob(**_entry(top)) for top in _objects(one.get("top_logprobs")))
            )
            for one in _objects(value["content"])
        )
    tokens, numbers = _list(value.get("tokens")), _list(value.get("token_logprobs"))
    alternatives = _list(value.get("top_logprobs")) or [None] * len(tokens)
    return tuple(
        TokenLogprob(
            token_id=0,
            token=str(token).encode(errors="replace"),
            logprob=_number(number),
            top=tuple(
                TopLogprob(token_id=0, token=str(name).encode(errors="replace"), logprob=_number(p))
                for name, p in (top if isinstance(top, dict) else {}).items()
            ),
        )
        for token, number, top in zip(tokens, numbers, alternatives, strict=False)
    )


def _entry(one: dict[str, Any]) -> dict[str, Any]:
    token_id = one.get("id")
    return {
        "token_id": token_id if isinstance(token_id, int) and 0 <= token_id <= MAX_TOKEN_ID else 0,
        "token": _bytes(one.get("bytes")) or str(one.get("token", "")).encode(errors="replace"),
        "logprob": _number(one.get("logprob")),
    }


def _bytes(value: Any) -> bytes:
    try:
        return bytes(value) if isinstance(value, list) else b""
    except (TypeError, ValueError):
        return b""


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if math.isfinite(value) else LEAST


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in _list(value) if isinstance(one, dict)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
