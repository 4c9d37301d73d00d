"""Drawing a token from logits: penalties, temperature, top-k, top-p, min-p, seed, log-probabilities. Pure numpy.

Order as in llama.cpp's default chain: penalties, top-k, top-p, min-p, temperature, draw. The random stream of a
request depends on its seed alone, never on its neighbours.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from protos.contract.request import Sampling

Logits = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


_NEVER = np.float32(-np.inf)


@dataclass(slots=True)
class Sampler:
    """Draws the tokens of one request."""

    sampling: Sampling
    seen: Counter[int] = field(default_factory=Counter)  # output so far, for the penalties
    prompt_seen: frozenset[int] = frozenset()  # for the repetition penalty
    ends: tuple[int, ...] = ()  # tokens that end an answer: not before ``min_tokens``
    drawn: int = 0  # tokens of the whole answer
    _random: np.random.Generator = field(init=False)
    _biased: npt.NDArray[np.int64] = field(init=False)
    _bias: Logits = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.sampling.seed)
        bias = self.sampling.logit_bias
        self._biased = np.fromiter(bias.keys(), dtype=np.int64, count=len(bias))
        self._bias = np.fromiter(bias.values(), dtype=np.float32, count=len(bias))

    def skip(self, draws: int) -> None:
        """Go on as if ``draws`` tokens had been drawn: a continuation's random stream goes on where it was."""
        self.drawn += draws
        if draws and self.sampling.temperature > 0:
            self._random.random(draws)

    def draw(self, logits: Logits, mask: Mask | None = None, *, goes_on: bool = False) -> int:
        """The next token, of those the mask has (all, where there is none); none that ends the answer where it must go
        on. ``logits`` is not changed.
        """
        sampling = self.sampling
        if self._penalizes:
            logits = self._penalized(logits)
        if self._biased.size:
            logits = logits.copy()
            logits[self._biased] += self._bias
        if mask is not None:
            logits = np.where(mask, logits, _NEVER)
        early = (goes_on or self.drawn < sampling.min_tokens) and bool(self.ends)
        if early:
            logits = self._going_on(logits)
        self.drawn += 1
        some = mask is not None or early
        token = int(logits.argmax()) if sampling.temperature <= 0 else self._random_token(logits, some)
        if self._penalizes:
            self.seen[token] += 1
        return token

    @property
    def _penalizes(self) -> bool:
        s = self.sampling
        return s.presence_penalty != 0 or s.frequency_penalty != 0 or s.repetition_penalty != 1

    def _penalized(self, logits: Logits) -> Logits:
        out = logits.copy()
        s = self.sampling
        if s.repetition_penalty != 1:
            tokens = np.fromiter(self.prompt_seen | self.seen.keys(), dtype=np.int64)
            values = out[tokens]
            out[tokens] = np.where(values > 0, values / s.repetition_penalty, values * s.repetition_penalty)
        if self.seen and (s.presence_penalty or s.frequency_penalty):
            tokens = np.fromiter(self.seen.keys(), dtype=np.int64)
            counts = np.fromiter(self.seen.values(), dtype=np.float32)
            out[tokens] -= s.presence_penalty + s.frequency_penalty * counts
        return out

    def _going_on(self, logits: Logits) -> Logits:
        """Without the tokens that end an answer, unless there are no others."""
        on = logits.copy()
        on[list(self.ends)] = _NEVER
        return on if float(on.max()) > _NEVER else logits

    def _random_token(self, logits: Logits, some: bool) -> int:
        """``some``: tokens that must not be drawn have a logit of minus infinity."""
        s = self.sampling
        if 0 < s.top_k < logits.size:
            candidates = np.argpartition(logits, -s.top_k)[-s.top_k :]
            candidates = candidates[logits[candidates] > _NEVER] if some else candidates
        elif s.top_p < 1 or s.min_p > 0:
            # what lies more than 30 nats below the best has no share that float32 could tell from zero
            candidates = np.flatnonzero(logits >= logits.max() - 30.0)
        else:
            candidates = np.flatnonzero(logits > _NEVER) if some else np.arange(logits.size)
        order = np.argsort(-logits[candidates], kind="stable") if s.top_p < 1 or s.min_p > 0 else None
        if order is not None:
            candidates = candidates[order]
            candidates = candidates[: self._nucleus(logits[candidates])]
        scaled = logits[candidates].astype(np.float64) / s.temperature
        weights = np.exp(scaled - scaled.max())
        cumulative = np.cumsum(weights)
        drawn = self._random.random() * cumulative[-1]
        return int(candidates[min(int(np.searchsorted(cumulative, drawn, side="right")), len(candidates) - 1)])

    def _nucleus(self, ordered: Logits) -> int:
        """How many of the candidates, best first, top-p and min-p keep; at least one."""
        weights = np.exp(ordered.astype(np.float64) - ordered[0])
        shares = weights / weights.sum()
        keep = len(shares)
        if self.sampling.top_p < 1:
            keep = int(np.searchsorted(np.cumsum(shares), self.sampling.top_p, side="left")) + 1
        if self.sampling.min_p > 0:
            keep = min(keep, int(np.count_nonzero(shares >= self.sampling.min_p * shares[0])))
        return max(1, min(keep, len(shares)))


def log_probabilities(logits: Logits, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """Log-probability of ``token`` under the model's own distribution, and the ``top`` likeliest, best first."""
    best = float(logits.max())
    total = best + float(np.log(np.exp(logits.astype(np.float64) - best).sum()))
    alternatives: list[tuple[int, float]] = []
    if top:
        indices = np.argpartition(logits, -top)[-top:]
        indices = indices[np.argsort(-logits[indices], kind="stable")]
        alternatives = [(int(i), float(logits[i]) - total) for i in indices]
    return float(logits[token]) - total, alternatives
