"""How long a step takes on a GPU that was recorded: settled curves, first steps at a new shape, what the engine says.

Pure: what a step holds in, seconds out; the dice are given.
"""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtest.emulate.recording import Recording, lone_prefills, unsettled

COPY_BYTES_PER_S = 3.03e12
"""Of an H100 SXM, read and written (FACTS, H100, measured): what reading the KV cache is taken to reach."""

MOST_IN_VECTORS = 8
"""Rows that llama.cpp multiplies with quantized weights by its vector kernel; beyond, tiles of 16 (ggml-cuda)."""

LAUNCH_SHARE = 0.2
"""Of a step without output: llama.cpp's call returns once it is launched, and the next step waits for the rest."""

NOISE = 0.02


@dataclass(frozen=True, slots=True)
class Points:
    """A curve through recorded points, straight beyond them."""

    at: tuple[float, ...]
    seconds: tuple[float, ...]

    def __call__(self, x: float) -> float:
        """Seconds at ``x``."""
        if len(self.at) == 1:
            return self.seconds[0] * x / self.at[0]
        right = min(max(bisect_left(self.at, x), 1), len(self.at) - 1)
        left = right - 1
        slope = (self.seconds[right] - self.seconds[left]) / (self.at[right] - self.at[left])
        return self.seconds[left] + slope * (x - self.at[left])


class Gpu:
    """One recording come alive. ``scattered``: sequences whose slots do not stand together are computed one run after
    another, as llama.cpp does with a KV cache of its own for each.
    """

    def __init__(self, recording: Recording, rng: random.Random, *, scattered: bool = True) -> None:
        self.recording = recording
        self._rng = rng
        self._scattered = scattered and recording.engine == "llama.cpp"
        self._decode = _decode_points(recording)
        self._prefill = _prefill_points(recording, self._decode(1))
        self._per_context_token_s = recording.kv_bytes_per_token / COPY_BYTES_PER_S
        self._unsettled = unsettled(recording)
        self._shape: tuple[int, ...] = ()
        self._steps_at_shape = 0
        self._loaded = False  # the kernels of long prompts

    def decode_s(self, batch: int, context_tokens: float) -> float:
        """A settled step of sequences that stand together."""
        more = context_tokens - batch * self.recording.context_per_sequence
        return self._decode(batch) + self._per_context_token_s * more

    def prefill_s(self, tokens: int) -> float:
        """A settled step of so many prompt tokens and nobody who decodes."""
        return max(self._prefill(tokens), self._decode(1) if self._scattered else 0.0)

    def prompt_s(self, tokens: int, chunk_tokens: int) -> float:
        """A whole prompt, chunk by chunk, settled."""
        whole, rest = divmod(tokens, chunk_tokens)
        return whole * self.prefill_s(chunk_tokens) + (self.prefill_s(rest) if rest else 0.0)

    def step_s(self, slots: Sequence[int], context_tokens: float, prompt_tokens: int) -> float:
        """A step as it comes: of the sequences in ``slots`` and of prompts beside them."""
        runs = _runs(slots) if self._scattered else ((len(slots),) if slots else ())
        share = context_tokens / max(len(slots), 1)
        seconds = sum(self.decode_s(one, share * one) for one in runs)
        seconds *= self._factor((*runs, prompt_tokens > 0))
        return seconds + (self._prompts_s(prompt_tokens) if prompt_tokens else 0.0)

    def told_s(self, batch: int, seconds: float) -> float:
        """What the engine's own statistics say of such a step."""
        if self.recording.engine != "vllm":
            return seconds
        alike = [step for number, _, prompt, _, step in self.recording.steps if number == batch and not prompt]
        return self._rng.choice(alike) if alike else self._rng.choice(self.recording.steps)[4]

    def _prompts_s(self, tokens: int) -> float:
        """Prompts of all lengths are new shapes, and were recorded as such; a kernel's first use is what it was."""
        seconds = self.prefill_s(tokens) * max(self._rng.gauss(1.0, NOISE), 0.9)
        if self._loaded or tokens <= MOST_IN_VECTORS:
            return seconds
        self._loaded = True
        first = next((step for batch, _, prompt, _, step in self.recording.steps if prompt > MOST_IN_VECTORS), 0.0)
        return max(seconds, first)

    def _factor(self, shape: tuple[int, ...]) -> float:
        self._steps_at_shape = self._steps_at_shape + 1 if shape == self._shape else 0
        self._shape = shape
        if self.recording.engine == "vllm":  # its graphs are captured before anything is served
            return max(self._rng.gauss(1.0, NOISE), 0.8)
        first = self._unsettled.first
        if self._steps_at_shape < len(first):
            return first[self._steps_at_shape]
        return self._rng.choice(self._unsettled.later)


def _decode_points(recording: Recording) -> Points:
    points = dict(recording.decode)
    if recording.whole_numbers_of_sequences:
        points[MOST_IN_VECTORS + 1] = points[2 * MOST_IN_VECTORS]
    return Points(*(tuple(one) for one in zip(*sorted(points.items()), strict=True)))


def _prefill_points(recording: Recording, alone_s: float) -> Points:
    """By the prompt tokens of a step: rows timed by themselves, else what prompts took in the join's steps.

    A kernel's first use may take a tenth of a second: where a longer prompt took less, the shorter one can too.
    """
    if recording.prefill:
        points = {
            width or tokens: seconds / (tokens / (width or tokens)) for width, tokens, seconds in recording.prefill
        }
        points.setdefault(1, alone_s)
    else:
        points = {1: alone_s}
        for width, tokens, seconds in lone_prefills(recording):
            points[width] = seconds / (tokens / width)
    at = sorted(points)
    shortest_s = [min(points[other] for other in at if other >= one) for one in at]
    return Points(tuple(at), tuple(shortest_s))


def _runs(slots: Sequence[int]) -> tuple[int, ...]:
    """How many stand together, run by run: (3, 1) for slots 0, 1, 2 and 5."""
    runs: list[int] = []
    ordered = sorted(slots)
    for before, slot in pairwise([-2, *ordered]):
        if slot == before + 1:
            runs[-1] += 1
        else:
            runs.append(1)
    return tuple(runs)
