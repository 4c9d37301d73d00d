"""The same traffic without a draft tier, with drafts beside their targets and with drafts elsewhere; what to do."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from loadtest.simulate.cases import Case, fleet_of, run_at, solve
from loadtest.simulate.drafts.stand import STANDS, acceptance_of, drafted, yields
from loadtest.simulate.fleet import FleetSpec
from loadtest.simulate.metrics import Figures

WORTH = 0.03
"""Least gain for which a draft tier is advised."""

LIGHT = 0.5
"""Of the least goodput that holds: the load at which TPOT is compared."""

LIGHTEST = 0.01
"""Requests a second where nothing holds the targets."""

BATCHES = (1, 4, 16)
CONTEXT_TOKENS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """One place for the drafts. ``goodput``: at the knee, or at the rate asked for; TPOT at ``rate``, in seconds."""

    stand: str
    goodput: float
    rate: float
    tpot_p50_s: float
    tpot_p95_s: float
    busy: float  # of the time, of the workers' mean


def compare(case: Case, processes: int) -> list[Stand]:
    """None first."""
    cases = [replace(case, draft=stand) for stand in ("", *STANDS)]
    with ProcessPoolExecutor(max_workers=min(processes, len(cases))) as pool:
        if case.rate > 0.0:
            goodputs, rate = [], case.rate
        else:
            knees = list(pool.map(solve, cases))
            goodputs = [one.knee.goodput if one.knee is not None else 0.0 for one in knees]
            holding = [goodput for goodput in goodputs if goodput > 0.0]
            rate = LIGHT * min(holding) if holding else LIGHTEST
        light: list[Figures] = list(pool.map(run_at, cases, [rate] * len(cases)))
    goodputs = goodputs or [one.goodput for one in light]
    return [
        Stand(
            stand=one.draft,
            goodput=goodput,
            rate=rate,
            tpot_p50_s=figures.tpot_s["p50"],
            tpot_p95_s=figures.tpot_s["p95"],
            busy=sum(figures.utilisation.values()) / max(len(figures.utilisation), 1),
        )
        for one, goodput, figures in zip(cases, goodputs, light, strict=True)
    ]


def advice(found: list[Stand]) -> str:
    """Where the drafts should stand: where goodput gains most; where it gains nowhere, where TPOT does."""
    none, *others = found
    best = max(others, key=lambda one: (one.goodput, -one.tpot_p50_s))
    more = best.goodput / none.goodput - 1.0 if none.goodput > 0.0 else (1.0 if best.goodput > 0.0 else 0.0)
    if more >= WORTH:
        told = f"+{more:.0%} goodput" if none.goodput > 0.0 else "it keeps the targets, which it does not without"
        return f"a draft pays: {best.stand} ({told}, TPOT p50 {best.tpot_p50_s / none.tpot_p50_s - 1.0:+.0%})"
    quickest = min(others, key=lambda one: one.tpot_p50_s)
    less = 1.0 - quickest.tpot_p50_s / none.tpot_p50_s if none.tpot_p50_s > 0.0 else 0.0
    if less >= WORTH and quickest.goodput >= (1.0 - WORTH) * none.goodput:
        return f"a draft pays: {quickest.stand} (TPOT p50 -{less:.0%} at {none.rate:.3g} requests/s, goodput alike)"
    return "a draft does not pay here: leave it out"


def told(fleet: FleetSpec, case: Case, found: list[Stand]) -> str:
    """For people."""
    drafts = "; ".join(
        f"{one.model} {one.quantization} on {one.node} for {one.target}, "
        f"accepted {acceptance_of(one, case.traffic):.0%}, round trip {1e3 * one.rtt_s:g} ms"
        for one in fleet.drafts
    )
    lines = [f"{fleet.name}, {case.traffic}, {case.requests} requests, policy {case.policy}; {drafts}", ""]
    headings = "".join(f"{f'k, gain at {batch}':>14}" for batch in BATCHES)
    lines.append(f"{'draft':8}{'goodput':>9}{'TPOT ms p50':>13}{'p95':>6}{headings}")
    for one in found:
        of_target = _yields(fleet, one.stand, case)
        lines.append(
            f"{one.stand or 'none':8}{one.goodput:9.3g}{1e3 * one.tpot_p50_s:13.1f}{1e3 * one.tpot_p95_s:6.0f}"
            + "".join(f"{f'{length}, {gain:.2f}x':>14}" for length, gain in of_target)
        )
    lines += ["", f"TPOT at {found[0].rate:.3g} requests/s; k and gain of one target by the sequences it decodes."]
    return "\n".join([*lines, advice(found)])


def _yields(fleet: FleetSpec, stand: str, case: Case) -> list[tuple[int, float]]:
    targets = {one.target for one in fleet.drafts}
    first = next(node for node in drafted(fleet_of(case.fleet), stand, case.traffic).nodes if node.model in targets)
    return [yields(first.declared, batch, CONTEXT_TOKENS) for batch in BATCHES if batch <= first.declared.slots] + [
        (0, 1.0) for batch in BATCHES if batch > first.declared.slots
    ]
