"""Log-probabilities in OpenAI's two shapes. Only requests that ask for them pay."""

import math

import msgspec

from protos.contract.stream import TokenLogprob

LEAST = -9999.0
"""OpenAI's stand-in for a probability of zero: JSON has no minus infinity."""


class RivalToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token that could have come; ``bytes`` may be part of a character."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token and its rivals, best first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[RivalToken]


class ChatLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Of a chat."""

    content: list[ChatToken]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Of a completion; offsets count characters of the whole text. The first token of an echo has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


def chat_logprobs(tokens: tuple[TokenLogprob, ...]) -> ChatLogprobs:
    """With each token's bytes."""
    return ChatLogprobs(
        content=[
            ChatToken(
                token=_text(token.token),
                logprob=_finite(token.logprob),
                bytes=list(token.token),
                top_logprobs=[
                    RivalToken(token=_text(one.token), logprob=_finite(one.logprob), bytes=list(one.token))
                    for one in token.top
                ],
            )
            for token in tokens
        ]
    )


class CompletionOffsets:
    """Shapes the tokens of one answer, piece by piece."""

    def __init__(self) -> None:
        self._offset = 0

    def take(self, tokens: tuple[TokenLogprob, ...], *, echo: tuple[TokenLogprob, ...] = ()) -> CompletionLogprobs:
        """The next tokens; ``echo``: those of the prompt before them, of which the first has no probability."""
        texts, offsets = [], []
        for token in (*echo, *tokens):
            texts.append(_text(token.token))
            offsets.append(self._offset)
            self._offset += len(texts[-1])
        return CompletionLogprobs(
            tokens=texts,
            token_logprobs=[*_after_first(echo), *(_finite(token.logprob) for token in tokens)],
            top_logprobs=[
                *(None if number == 0 else _rivals(token) for number, token in enumerate(echo)),
                *(_rivals(token) for token in tokens),
            ],
            text_offset=offsets,
        )


def _after_first(echo: tuple[TokenLogprob, ...]) -> list[float | None]:
    return [None if number == 0 else _finite(token.logprob) for number, token in enumerate(echo)]


def _rivals(token: TokenLogprob) -> dict[str, float]:
    return {_text(one.token): _finite(one.logprob) for one in token.top}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return LEAST if math.isnan(logprob) else max(LEAST, min(0.0, logprob))
