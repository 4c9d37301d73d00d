"""The governor against the best fixed length, on measured verify curves: when it begins, it knows nothing of the
acceptance and the costs from one noisy step each, as after loading a model; it learns both as it goes.
"""

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loadtest.bench.figures import keep
from workers.speculation.acceptance import expected_tokens, round_time_s
from workers.speculation.evidence import Evidence
from workers.speculation.governor import PROBE_EVERY, Candidate, Governor
from workers.speculation.verify_curve import MEASURED_ROWS, VerifyCurve

CURVES_MS: dict[str, tuple[tuple[int, float], ...]] = {
    "H100 8B Q4_K_M": ((1, 3.99), (2, 4.59), (4, 6.16), (8, 8.83), (16, 8.73), (32, 10.75), (64, 15.71)),
    "H100 8B Q8_0": ((1, 4.54), (2, 5.01), (4, 5.61), (8, 7.77), (16, 9.26), (32, 11.01), (64, 14.90)),
    "H100 8B F16": ((1, 6.27), (2, 8.41), (4, 8.49), (8, 8.91), (16, 9.65), (32, 10.32), (64, 12.64)),
    "H100 70B Q4_K_M": ((1, 23.8), (2, 25.2), (4, 36.2), (8, 58.2), (16, 45.8), (32, 57.8), (64, 82.6)),
    "CPU 135M Q8_0": ((1, 11.5), (2, 29.1), (4, 36.1), (8, 50.0), (16, 77.6), (32, 139.8)),
}
"""Milliseconds of a step by its rows: llama.cpp on one H100 (27 November 2026) and on one server core."""

ACCEPTANCES = (0.2, 0.4, 0.6, 0.8, 0.95)
RTTS_MS = (0.0, 1.0, 10.0, 100.0)
BATCHES = (1, 4, 16, 64)
DRAFT_TOKEN_SHARE = 0.1
"""A draft's step against the target's at one row."""

MOST = 8
NOISE = 0.1
AGREEMENT = 10
WARM_UP, MEASURED = 304, 304


@dataclass(frozen=True, slots=True)
class Case:
    """One point of the grid, and what is true there."""

    curve: str
    batch: int
    acceptance: float
    rtt_s: float

    @property
    def draft_token_s(self) -> float:
        """Seconds of one proposal."""
        return DRAFT_TOKEN_SHARE * CURVES_MS[self.curve][0][1] / 1e3

    def dice(self) -> random.Random:
        """The same noise whenever this point is measured."""
        return random.Random(f"{self.curve} {self.batch} {self.acceptance} {self.rtt_s}")

    def step_s(self) -> Callable[[int], float]:
        """True seconds of a step by its rows."""
        return VerifyCurve([(rows, ms / 1e3) for rows, ms in CURVES_MS[self.curve]]).seconds

    def rate(self, length: int) -> float:
        """Tokens a second of each sequence, always with so many proposals."""
        took = round_time_s(
            length,
            verify_s=self.step_s()(self.batch * (1 + length)),
            draft_token_s=self.draft_token_s,
            rtt_s=self.rtt_s,
        )
        return expected_tokens(self.acceptance, length) / took

    def best(self) -> tuple[int, float]:
        """The best fixed length and its rate."""
        best = max(range(MOST + 1), key=self.rate)
        return best, self.rate(best)

    def gain(self) -> float:
        """Of the best length that is not 0, against none."""
        return max(map(self.rate, range(1, MOST + 1))) / self.rate(0)

    def governed(self, dice: random.Random) -> tuple[float, float]:
        """The same of the governor, once it has learned, and the share of steps in which it speculates, probes aside:
        those cost what ``gap`` says.
        """
        step_s = self.step_s()
        learned = VerifyCurve([(rows, step_s(rows) * dice.uniform(1 - NOISE, 1 + NOISE)) for rows in MEASURED_ROWS])
        evidence, governor = Evidence(), Governor()
        tokens = took = speculated = 0.0
        for number in range(WARM_UP + MEASURED):
            one = Candidate((evidence.chance(AGREEMENT),) * MOST, self.draft_token_s, self.rtt_s)
            governor.begin_step()
            chosen = governor.allot(
                [one] * self.batch, learned, plain_rows=self.batch, most_rows=self.batch * (1 + MOST)
            )
            governor.chosen(chosen)
            lengths = chosen.lengths
            rows = self.batch + sum(lengths)
            seconds = step_s(rows) * dice.uniform(1 - NOISE, 1 + NOISE)
            learned.observe(rows, seconds)
            longest = max(lengths)
            for length in lengths:
                for _ in range(max(length, 1)):
                    accepted = dice.random() < self.acceptance
                    evidence.tell(AGREEMENT, accepted=accepted)
                    if not accepted:
                        break
            if number >= WARM_UP:
                tokens += sum(expected_tokens(self.acceptance, length) for length in lengths) / self.batch
                took += round_time_s(longest, verify_s=step_s(rows), draft_token_s=self.draft_token_s, rtt_s=self.rtt_s)
                speculated += any(lengths) and (number + 1) % PROBE_EVERY != 0
        return tokens / took, speculated / (MEASURED * (1.0 - 1.0 / PROBE_EVERY))


def measure(options: argparse.Namespace) -> str:
    """The grid; worst and typical loss against who knew the best length."""
    del options
    rows: list[dict[str, Any]] = []
    for curve in CURVES_MS:
        for batch in BATCHES:
            for acceptance in ACCEPTANCES:
                for rtt_ms in RTTS_MS:
                    case = Case(curve, batch, acceptance, rtt_ms / 1e3)
                    length, best = case.best()
                    rate, on = case.governed(case.dice())
                    at = {"curve": curve, "batch": batch, "acceptance": acceptance, "rtt_ms": rtt_ms}
                    rows.append({**at, "best_length": length, "gap": 1.0 - rate / best, "on": on})
    worst = max(rows, key=lambda row: row["gap"])
    never = [row for row in rows if row["best_length"] == 0]
    print(f"governor against the best fixed length, {len(rows)} points, worst of each curve:")
    for curve in CURVES_MS:
        bad = max((row for row in rows if row["curve"] == curve), key=lambda row: row["gap"])
        print(
            f"  {curve:16} gap {bad['gap']:6.1%} at batch {bad['batch']}, acceptance {bad['acceptance']}, "
            f"rtt {bad['rtt_ms']} ms (best length {bad['best_length']}, on in {bad['on']:.0%} of steps)"
        )
    lost = max((row["gap"] for row in never), default=0.0)
    on = max((row["on"] for row in never), default=0.0)
    figures = {"worst_gap": worst["gap"], "lost_where_off_is_best": lost, "on_where_off_is_best": on, "rows": rows}
    keep("governor", figures)
    return (
        f"governor: worst gap {worst['gap']:.1%}; where off is best ({len(never)} points) on in {on:.1%} of steps at "
        f"most, losing {lost:.1%} at most to probes"
    )
