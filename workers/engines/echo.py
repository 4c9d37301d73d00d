"""A prompt that is repeated before its answer, with its tokens' log-probabilities where they are asked for. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protos.contract.request import Sampling
from protos.contract.stream import TokenLogprob


@dataclass(slots=True)
class Echo:
    """Of one job. ``scores``: log-probabilities are wanted, so that no part of the prompt may come from a cache."""

    pieces: list[bytes]  # of the prompt's tokens
    scores: bool
    top: int
    _entries: list[TokenLogprob] = field(default_factory=list)
    _told: bool = False

    def add(self, entry: TokenLogprob) -> None:
        """The next token's log-probability; the first token that is told of has none."""
        self._entries.append(entry)

    def take(self) -> dict[str, Any]:
        """The fields of the first delta that say it; nothing afterwards."""
        if self._told:
            return {}
        self._told = True
        return {"echo": b"".join(self.pieces).decode("utf-8", "replace"), "echo_logprobs": tuple(self._entries)}


def echo_of(sampling: Sampling, prompt: list[int], start_token: int, piece: Callable[[int], bytes]) -> Echo | None:
    """None where the prompt is not to be repeated. The begin-of-sequence token is no part of it."""
    if not sampling.echo:
        return None
    shown = prompt[1:] if prompt[:1] == [start_token] else prompt
    echo = Echo([piece(token) for token in shown], sampling.logprobs, sampling.top_logprobs)
    if echo.scores and shown:
        echo.add(TokenLogprob(token_id=shown[0], token=echo.pieces[0], logprob=0.0))
    return echo
