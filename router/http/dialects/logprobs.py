"""Log-probabilities in OpenAI's two shapes. Plain values in and out; only requests that ask for them pay."""

import math
from typing import Any

from protos.contract.stream import TokenLogprob

LEAST = -9999.0
"""OpenAI's stand-in for a probability of zero: JSON has no minus infinity."""


def chat_logprobs(tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    """``{"content": [{token, logprob, bytes, top_logprobs}], "refusal": null}``."""
    return {
        "content": [
            {
                **_chat_token(token.token, token.logprob),
                "top_logprobs": [_chat_token(one.token, one.logprob) for one in token.top],
            }
            for token in tokens
        ],
        "refusal": None,
    }


class CompletionLogprobs:
    """``{tokens, token_logprobs, top_logprobs, text_offset}``; offsets count characters of the whole answer."""

    def __init__(self) -> None:
        self._offset = 0

    def take(self, tokens: tuple[TokenLogprob, ...]) -> dict[str, Any]:
        """The next tokens."""
        texts = [_text(token.token) for token in tokens]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [_finite(token.logprob) for token in tokens],
            "top_logprobs": [{_text(one.token): _finite(one.logprob) for one in token.top} for token in tokens],
            "text_offset": offsets,
        }


def _chat_token(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": _finite(logprob), "bytes": list(token)}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return LEAST if math.isnan(logprob) else max(LEAST, min(0.0, logprob))
