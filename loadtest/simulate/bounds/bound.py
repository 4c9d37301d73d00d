"""The best achievable goodput: an upper bound by linear programme on the fleet's true capacities.

Fluid: requests of each kind flow to workers at constant rates. No queue, no chance, every prefix that anybody sent
before found in whichever cache is used. Real arrivals vary and real prompts wait behind others, so what a policy
reaches lies below. In each worker's second there has to be room for every prompt's prefill, every token's own part
of its steps, and the steps' fixed part, of which there are at least

- as many as its slots, its KV cache and the TPOT target make of the tokens (more sequences at once would take longer
  per step than the target allows),
- 1 / (2 * TPOT target - fixed part) in each second in which a request that keeps its target decodes. Each of those
  requests sees a mean step of at most the target; of the intervals in which they decode, some cover all of that time
  with no step in more than two (a minimal cover), and a step counted twice takes at least the fixed part. (One in
  each target would be too many: steps are short where answers overlap and long, with others' prefill, where not.)
  Seconds in which none of them decodes are spent on a prompt that finds the worker empty of them; until the next
  such prompt all of its own steps have to pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from loadtest.simulate.bounds.demands import Demands, Floats, demands, straight, tpot_allowed_s, uncached_tokens
from loadtest.simulate.fleet import FleetSpec
from loadtest.simulate.traffic import Arrival
from workers.engines.simulated.parameters import EngineParameters

SAMPLE = 1500
"""Requests of the traffic that stand for all..."""

FLOWS = 60_000
"""...unless times the workers they make more unknowns than this: then fewer do."""

MAY_MISS = 0.05
"""Share of the requests that goodput allows outside the targets, so that a policy may as well not serve them."""


def best_goodput(
    fleet: FleetSpec,
    arrivals: Sequence[Arrival],
    true: Sequence[EngineParameters],
    *,
    left_out: float | None = MAY_MISS,
    clairvoyant: bool = False,
) -> float:
    """Requests a second inside the targets, in the proportions of ``arrivals``.

    ``left_out``: share of the requests that need not be served; the programme leaves out the dearest. None: exactly
    those are left out that no worker could serve in time even if it had nothing else to do. ``clairvoyant``: output
    lengths are known, so that long answers are left out before long prompts; a policy that does not know them
    leaves out an average answer with whatever it leaves out.
    """
    sample, uncached = _sample(arrivals, max(min(SAMPLE, FLOWS // len(fleet.nodes)), 50))
    needs = demands(fleet, sample, uncached, true, clairvoyant=clairvoyant)
    impossible = float(1.0 - needs.possible.any(axis=1).mean())
    if left_out is None or impossible > left_out:
        left_out = impossible
    programme = _Programme(len(sample), len(fleet.nodes))
    for i, p in enumerate(true):
        _worker(programme, i, straight(p), needs)
    programme.share_out(left_out)
    return programme.solve(needs.possible)


def alone(fleet: FleetSpec, arrivals: Sequence[Arrival], true: Sequence[EngineParameters]) -> dict[str, float]:
    """Each worker's own capacity on this traffic, requests a second: the weights an oracle would write down.

    Requests that a worker cannot serve inside the targets are left out of its mix; a worker that can serve none
    keeps a token weight.
    """
    sample, uncached = _sample(arrivals, SAMPLE)
    needs = demands(fleet, sample, uncached, true, clairvoyant=True)
    weights: dict[str, float] = {}
    for i, (node, p) in enumerate(zip(fleet.nodes, true, strict=True)):
        able = needs.possible[:, i]
        if not able.any():
            weights[node.worker_id] = 1e-6
            continue
        work = float((needs.prefill_s[able, i] + needs.decode_s[able, i]).mean())
        least = max(float(row[able].mean()) for row in _least_steps_per_request(p, needs))
        rate = min(max(1.0 - p.base_s / tpot_allowed_s(), 0.0) / work, 1.0 / (work + p.base_s * least))
        weights[node.worker_id] = max(rate, 1e-6)
    return weights


def _sample(arrivals: Sequence[Arrival], size: int) -> tuple[list[Arrival], Floats]:
    """Evenly spread requests, and the prompt tokens of each that nobody sent before."""
    places = np.unique(np.linspace(0, len(arrivals) - 1, min(size, len(arrivals))).astype(int))
    return [arrivals[k] for k in places], uncached_tokens(arrivals)[places]


def _least_steps_per_request(p: EngineParameters, needs: Demands) -> tuple[Floats, Floats, Floats]:
    """Steps that a request brings at least, by slots, by KV cache, and by the TPOT target.

    The last: step times weighted by the batch are at most the target, base + c * mean batch <= target, and the mean
    weighted so is at least the plain one, which is tokens over steps.
    """
    left = max(tpot_allowed_s() - p.base_s, 1e-9)
    return needs.steps / p.slots, needs.held / p.kv_capacity_tokens, needs.steps * p.per_sequence_s / left


def _worker(programme: "_Programme", i: int, p: EngineParameters, needs: Demands) -> None:
    """One worker's second."""
    work = needs.prefill_s[:, i] + needs.decode_s[:, i]
    programme.at_most(1.0, served=(i, work), steps=(i, p.base_s))
    for least in _least_steps_per_request(p, needs):
        programme.at_most(0.0, served=(i, least), steps=(i, -1.0))
    # Seconds with decoding, base * steps + work - pure prefill, against steps. In a pure step the chunk's rest may go
    # to prompts that come behind the one that found the worker empty.
    chunk = max(p.chunk_tokens, p.prefill_chunk_tokens)
    rest = chunk * p.prefill_token_s * (1.0 + p.prefill_attention * p.context_tokens)
    pure = needs.prefill_s[:, i] + rest
    longest = max(2.0 * tpot_allowed_s() - p.base_s, p.base_s)
    programme.at_most(0.0, served=(i, work), steps=(i, p.base_s - longest), pure=(i, np.negative(pure)))
    programme.at_most(0.0, pure=(i, needs.steps), steps=(i, -1.0))


@dataclass(slots=True)
class _Programme:
    """Unknowns, in this order: rate of job j on worker i; of those, the ones that find it empty; each worker's steps
    a second; the offered rate.
    """

    jobs: int
    workers: int
    rows: list[int] = field(default_factory=list)
    columns: list[Any] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    @property
    def offered(self) -> int:
        """The offered rate's column."""
        return 2 * self.jobs * self.workers + self.workers

    def at_most(
        self,
        limit: float,
        *,
        served: tuple[int, Floats] | None = None,
        pure: tuple[int, Floats] | None = None,
        steps: tuple[int, float] | None = None,
    ) -> None:
        """One row: the sum of what is given is at most ``limit``."""
        for offset, part in ((0, served), (self.jobs * self.workers, pure)):
            if part is not None:
                self._add(offset + np.arange(self.jobs) * self.workers + part[0], part[1])
        if steps is not None:
            self._add(np.array([2 * self.jobs * self.workers + steps[0]]), np.array([steps[1]]))
        self.limits.append(limit)

    def share_out(self, left_out: float) -> None:
        """No more of a job than its share of what is offered; all but so much is served; who finds a worker empty
        is served there. The slack is for rounding.
        """
        flows = self.jobs * self.workers
        for j in range(self.jobs):
            self._add(np.arange(j * self.workers, (j + 1) * self.workers), np.ones(self.workers))
            self._add(np.array([self.offered]), np.array([-1.0 / self.jobs]))
            self.limits.append(0.0)
        self._add(np.arange(flows), np.full(flows, -1.0))
        self._add(np.array([self.offered]), np.array([1.0 - left_out - 1e-9]))
        self.limits.append(0.0)
        first = len(self.limits)
        every = np.arange(flows)
        self.rows += [*(first + every).tolist() * 2]
        self.columns += [every + flows, every]
        self.values += [np.ones(flows), np.full(flows, -1.0)]
        self.limits += [0.0] * flows

    def solve(self, possible: Any) -> float:
        """The greatest rate served; 0 when there is none."""
        able = possible.ravel()
        most = np.concatenate(
            [np.where(able, np.inf, 0.0), np.where(able, np.inf, 0.0), np.full(self.workers + 1, np.inf)]
        )
        goal = np.zeros(self.offered + 1)
        goal[: self.jobs * self.workers] = -1.0
        shape = (len(self.limits), self.offered + 1)
        matrix = coo_array(
            (np.concatenate(self.values), (np.array(self.rows), np.concatenate(self.columns))), shape=shape
        )
        bounds = np.stack([np.zeros(self.offered + 1), most], axis=1)
        solved = linprog(goal, A_ub=matrix.tocsc(), b_ub=self.limits, bounds=bounds, method="highs")
        return float(-solved.fun) if solved.status == 0 else 0.0

    def _add(self, columns: Any, values: Any) -> None:
        self.rows += [len(self.limits)] * len(columns)
        self.columns.append(columns)
        self.values.append(values)
