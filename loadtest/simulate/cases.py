"""One thing to simulate as plain values, so that a pool of processes can share the work."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from loadtest.simulate.bounds.bound import alone, best_goodput
from loadtest.simulate.bounds.foresight import foresee
from loadtest.simulate.drafts.stand import drafted
from loadtest.simulate.fleet import FleetSpec, read_fleet
from loadtest.simulate.metrics import Figures, Served, figures
from loadtest.simulate.router_side import NO_ADMISSION
from loadtest.simulate.search import REQUIRED, Knee, find_knee
from loadtest.simulate.traces import read_trace
from loadtest.simulate.traffic import GENERATORS, LONGEST_PROMPT, Arrival, at_rate, from_sizes
from loadtest.simulate.world import REPORT_GAP_S, Drift, Setup, World

ORACLE = frozenset({"weighted_round_robin", "weighted_least_request"})
"""Policies that are given the true capacities at time zero as their weights."""

SPEED_BLIND = ("round_robin", "random", "least_request", "power_of_two", "cache_aware", "llmd", "dynamo")


CLAIRVOYANT_GAP_S = 0.005
"""Seconds between two load reports to a policy that is to know everything."""

FIRST_RATE = 0.5
"""Requests a second where the search begins when nothing can be answered whole, and no bound says where."""

GIVE_UP_AT = 0.12
"""A run in which so many have missed is far beyond the knee: its end would teach nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``traffic``: a generator's name or a trace's path. ``admission`` False: everything is dispatched at once."""

    fleet: str
    traffic: str
    policy: str
    seed: int = 1
    requests: int = 1000
    parameters: tuple[tuple[str, Any], ...] = ()
    admission: bool = True
    draft: str = ""  # where the fleet's draft models stand: local, remote; empty: there are none
    drift: bool = False  # one worker in four three times as slow, a third of the way through
    clairvoyant: bool = False  # it knows true speeds and output lengths, and loads without delay
    foresight: bool = False  # somebody who knows what comes turns away whom it pays to
    replicas: int = 1
    report_gap_s: float = REPORT_GAP_S
    rate: float = 0.0  # 0: find the knee
    start: float = 0.5  # where the search begins, as a share of the bound
    precision: float = 0.05
    stride: float = 2.0  # of the search; less where the start is a good guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A case's knee, or its figures at a given rate; the bounds beside it."""

    case: Case
    knee: Knee | None
    figures: Figures | None
    bound: float
    quality_floor_broken: int
    extra: dict[str, float] = field(default_factory=dict)


def traffic_at(case: Case, rate: float) -> list[Arrival]:
    """The case's requests at an offered rate. Raises InputError for a trace that cannot be used."""
    fleet = fleet_of(case.fleet)
    rng = random.Random(case.seed)
    generator = GENERATORS.get(case.traffic)
    if generator is not None:
        return generator(rate, case.requests, rng, fleet.demand)
    sizes = _trace(case.traffic)
    first = rng.randrange(max(len(sizes) - case.requests, 1))
    return at_rate(from_sizes(sizes[first : first + case.requests], fleet.demand, rng), rate)


def bound_of(case: Case) -> float:
    """The fluid upper bound on goodput for this traffic on the fleet's true capacities."""
    fleet = fleet_of(case.fleet)
    return max(0.0, best_goodput(fleet, traffic_at(case, 1.0), fleet.true_parameters(case.seed)))


def run_at(case: Case, rate: float, *, give_up_at: float = 1.0) -> Figures:
    """One simulation."""
    arrivals = traffic_at(case, rate)
    if not case.foresight:
        served, busy_s = _play(case, arrivals, give_up_at)
        return figures(served, busy_s, arrivals)

    def play(kept: Sequence[Arrival]) -> list[Served]:
        return _play(case, kept, give_up_at)[0]

    return figures(foresee(arrivals, play, allowed=1.0 - REQUIRED, seed=case.seed), None, arrivals)


def _play(case: Case, arrivals: Sequence[Arrival], give_up_at: float) -> tuple[list[Served], dict[str, float]]:
    """What became of each, and the seconds each worker worked."""
    fleet = _drafted(case.fleet, case.draft, case.traffic)
    parameters = dict(case.parameters)
    if case.policy in ORACLE:
        parameters["weights"] = alone(fleet, arrivals, fleet.true_parameters(case.seed))
    setup = Setup(
        fleet=fleet,
        policy=case.policy,
        seed=case.seed,
        parameters=parameters,
        limits=None if case.admission else NO_ADMISSION,
        replicas=case.replicas,
        report_gap_s=CLAIRVOYANT_GAP_S if case.clairvoyant else case.report_gap_s,
        clairvoyant=case.clairvoyant,
        drift=Drift(at=arrivals[len(arrivals) // 3].at) if case.drift else None,
    )
    world = World(setup, arrivals)
    return world.run(give_up_at=give_up_at), world.busy_s


def solve(case: Case) -> Outcome:
    """What the case asks for. For a pool of processes."""
    bound = bound_of(case)
    if case.rate > 0.0:
        at = run_at(case, case.rate)
        return Outcome(case=case, knee=None, figures=at, bound=bound, quality_floor_broken=at.quality_floor_broken)
    broken = 0

    def run(rate: float) -> Figures:
        nonlocal broken
        found = run_at(case, rate, give_up_at=GIVE_UP_AT)
        broken += found.quality_floor_broken
        return found

    first = bound * case.start if bound > 0.0 else FIRST_RATE
    knee = find_knee(run, first, precision=case.precision, stride=case.stride)
    return Outcome(case=case, knee=knee, figures=knee.figures, bound=bound, quality_floor_broken=broken)


def notes_on(case: Case) -> tuple[str, ...]:
    """What of the traffic no policy can help: lines for people."""
    fleet = fleet_of(case.fleet)
    notes = []
    if case.traffic not in GENERATORS:
        cut = sum(prompt > LONGEST_PROMPT for _, prompt, _, _ in _trace(case.traffic))
        if cut:
            notes.append(f"{cut} prompts of the trace are cut to {LONGEST_PROMPT} tokens")
    longest: dict[str, int] = {}
    for node, parameters in zip(fleet.nodes, fleet.true_parameters(case.seed), strict=True):
        model = node.instance.model
        longest[model] = max(longest.get(model, 0), parameters.context_tokens)
    arrivals = traffic_at(case, 1.0)
    lost = [one for one in arrivals if one.prompt_tokens + one.output_tokens > longest.get(one.model, 0)]
    if lost:
        most = max(one.prompt_tokens + one.output_tokens for one in lost)
        models = ", ".join(f"{name} {longest.get(name, 0)}" for name in sorted({one.model for one in lost}))
        notes.append(
            f"{len(lost)} of {len(arrivals)} requests fit no worker's context with their answers (up to {most} tokens; "
            f"largest contexts: {models}): no policy can answer them whole"
        )
    return tuple(notes)


@lru_cache(maxsize=8)
def fleet_of(path: str) -> FleetSpec:
    """A fleet file, read once."""
    return read_fleet(path)


@lru_cache(maxsize=8)
def _drafted(path: str, stand: str, traffic: str) -> FleetSpec:
    return drafted(fleet_of(path), stand, traffic)


@lru_cache(maxsize=2)
def _trace(path: str) -> Any:
    return read_trace(Path(path))
