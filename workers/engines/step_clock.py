"""How long an engine's steps take, by the clock: from output to output while work is there. Pure.

An engine tells what a step held: sequences, context, prompt tokens. How long it took is told too, and often by a clock
that sees a part of it: under async scheduling vLLM times the host's share (0.03 ms for a step of 2.6; one H100, 27
November 2026). So what is told is compared with the time between outputs, and believed only where the two keep one
ratio; then it is the finer of the two, without the event loop's own jitter.
"""

from collections import deque
from dataclasses import dataclass, replace
from statistics import quantiles

from protos.contract.worker import Load
from workers.engines.base import StepResult, TimedStep

COMPARED = 33
"""Steps whose told times are compared with the clock: the last so many."""

LEAST_COMPARED = 5

BELIEVED = (0.9, 1.05)
"""Told time over the clock's, in the median: what passes between two steps is told by nobody, and no step is longer
than the time between its outputs."""

SPREAD = 0.25
"""Of those ratios, between the quartiles and relative to the median: beyond, what is told says something else."""

REMEMBERED_STEPS = 50.0
SPECULATES = 1.15
"""Tokens a sequence and step above which an engine writes several at once. A sequence that holds text back until it
is whole gives two with the next step, and one on average."""


@dataclass(slots=True)
class _Tokens:
    """Tokens that steps wrote, and sequences they wrote for; both fade."""

    written: float = 0.0
    sequences: float = 0.0

    def add(self, written: int, sequences: int) -> None:
        kept = 1.0 - 1.0 / REMEMBERED_STEPS
        self.written, self.sequences = kept * self.written + written, kept * self.sequences + sequences

    @property
    def each(self) -> float:
        """Of a sequence in a step: 1, unless the engine speculates."""
        each = self.written / self.sequences if self.sequences else 1.0
        return each if each > SPECULATES else 1.0


class StepClock:
    """Hears every result of one engine, in order. A ``TimedStep``'s seconds are those of one token of each sequence:
    of a step that writes several, its share.
    """

    def __init__(self) -> None:
        self._at = 0.0
        self._sequence = 0
        self._busy = False  # since the last result work was there
        self._shares: deque[float] = deque(maxlen=COMPARED)
        self._tokens = _Tokens()
        self._held: tuple[int, int] = (0, 0)  # by the step before
        self._last: TimedStep | None = None

    def heard(self, result: StepResult, now: float) -> StepResult:
        """The result with its step timed, where one can be: not after a pause, nor of a few at once that differ."""
        load = result.load
        at = result.at or now
        steps = load.step_sequence - self._sequence
        if steps < 0:  # a model went, and its steps with it
            self._sequence, self._busy = load.step_sequence, False
        step = self._timed(result, at, steps) if steps > 0 else None
        if step is not None:
            self._last = step
        self._busy = load.running + load.waiting > 0 and (self._busy or steps > 0)
        return replace(result, load=self.of(load), step=step)

    def of(self, load: Load) -> Load:
        """A load with its last step as the clock has it; nothing is told before one was timed."""
        last = self._last
        if last is None:
            return replace(load, last_step_s=0.0) if load.last_step_s else load
        return replace(
            load,
            last_step_s=last.seconds,
            last_step_batch=last.batch,
            last_step_prefill_tokens=last.prefill_tokens,
            last_step_prefills=last.prefills,
        )

    def _timed(self, result: StepResult, at: float, steps: int) -> TimedStep | None:
        load, told_s = result.load, result.load.last_step_s
        held, before = (load.last_step_batch, load.last_step_prefill_tokens), self._held
        between_s, busy = (at - self._at) / steps, self._busy
        self._at, self._sequence, self._held = at, load.step_sequence, held
        if told_s <= 0.0 or not any(held):
            return None  # whoever does not tell what a step held has no steps
        if steps == 1 and not held[1]:
            self._tokens.add(sum(one.token_count for one in result.deltas), held[0])
        alike = steps == 1 or (held == before and not held[1])
        measured = busy and alike and between_s > 0.0
        if measured and steps == 1:
            self._shares.append(told_s / between_s)
        share = self._share()
        if share > 0.0:
            seconds = told_s / share
        elif measured:
            seconds = between_s
        else:
            return None
        return TimedStep(
            seconds=seconds / self._tokens.each,
            batch=held[0],
            context_tokens=load.context_tokens,
            prefill_tokens=held[1],
            prefills=load.last_step_prefills,
        )

    def _share(self) -> float:
        """Which part of a step the engine's own time is; 0: no constant one, or not enough is known."""
        if len(self._shares) < LEAST_COMPARED:
            return 0.0
        low, median, high = quantiles(self._shares, n=4)
        least, most = BELIEVED
        return median if least <= median <= most and high - low <= SPREAD * median else 0.0
