"""``make bench-simfidelity``: how well the simulated engine, given a join benchmark's profile, predicts that worker.

Each round measures a profile on the real llama.cpp worker as a join would, freezes it to a file, and only then draws
the seeds of its loads: a closed loop with 16 streams, and open loops at 50, 70 and 90% of the knee, in an order drawn
with them. The simulated engine runs them on the virtual clock from the file alone; the real worker runs them right
after. Rounds are repeated because the machine itself drifts; every round's figures are kept, and how many processors
others kept busy meanwhile. What was measured while others kept more than a quarter of a processor busy tells of them:
it is measured again with the same requests, three times at most, and how often is kept too.

The knee is the greatest Poisson rate at which 95% of the first tokens come within two seconds, by the simulation.
"""

import argparse
import asyncio
import json
import random
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.bench.fidelity.load import Request, closed_load, open_load, percentile
from loadtest.bench.fidelity.real import RealWorker
from loadtest.bench.fidelity.virtual import VirtualWorker
from loadtest.bench.quiet import Quiet
from workers.benchmark.simulated_profile import profile_toml
from workers.cli.log_setup import set_up_logging
from workers.hardware.detect import this_machine
from workers.models.smollm2 import make, quieten_llama

ROUNDS = 5
STREAMS = 16
LOADS = (0.5, 0.7, 0.9)
OPEN_S = 25.0
CLOSED_S, WARM_S = 14.0, 2.0
KNEE_TTFT_S, KNEE_SHARE = 2.0, 0.95
KNEE_RUN_S = 600.0
CLOSED_REQUESTS = 4000
"""More than any closed loop here gets through."""

console = Console(width=100, highlight=False)


@dataclass(slots=True)
class Pair:
    """What was predicted and what was measured, round by round."""

    predicted: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """Everything the rounds brought."""

    throughput: Pair = field(default_factory=Pair)
    ttft: dict[float, Pair] = field(default_factory=lambda: defaultdict(Pair))  # every request's
    rounds: list[dict[str, Any]] = field(default_factory=list)


def knee(worker: VirtualWorker) -> float:
    """Requests a second, to 2%, by bisection over one long run at each rate."""
    low, high = 0.0, 64.0
    while high - low > 0.02 * high:
        rate = (low + high) / 2.0
        firsts = worker.open(open_load(random.Random(0), rate, KNEE_RUN_S), runs=1)
        if percentile(firsts, KNEE_SHARE) <= KNEE_TTFT_S:
            low = rate
        else:
            high = rate
    return low


async def one_round(worker: RealWorker, profile: Path, found: Found) -> None:
    """Profile, then each load: predicted from the frozen profile, measured, in an order drawn anew."""
    quiet = Quiet(console.print)
    speed = await quiet.measured("profile", worker.profile)
    text = profile_toml(this_machine(), "llama.cpp", worker.loaded, speed)
    await asyncio.to_thread(profile.write_text, text)
    virtual = VirtualWorker(profile)
    rate = knee(virtual)
    seed = random.SystemRandom().getrandbits(48)  # drawn after the profile was frozen
    row: dict[str, Any] = {"seed": seed, "knee_per_s": rate, "ttft_s": {}}
    for share in random.Random(seed).sample((0.0, *LOADS), len(LOADS) + 1):
        if share:
            requests = open_load(random.Random(f"{seed}/{share}"), share * rate, OPEN_S)
            row["ttft_s"][f"{share:.1f}"] = await _open(worker, virtual, requests, found, share, quiet)
        else:
            row["throughput"] = await _closed(
                worker, virtual, closed_load(random.Random(seed), CLOSED_REQUESTS), found, quiet
            )
    found.rounds.append(row | {"others_cpus": quiet.others_cpus, "tries": quiet.tries})


async def _closed(
    worker: RealWorker, virtual: VirtualWorker, asked: list[Request], found: Found, quiet: Quiet
) -> list[float]:
    predicted = virtual.closed(asked, STREAMS, warm_s=WARM_S, seconds=CLOSED_S)
    measured = await quiet.measured("0.0", lambda: worker.closed(asked, STREAMS, warm_s=WARM_S, seconds=CLOSED_S))
    found.throughput.predicted.append(predicted)
    found.throughput.measured.append(measured)
    _say(f"closed loop, {STREAMS} streams", "tokens/s", [predicted], [measured])
    return [predicted, measured]


async def _open(
    worker: RealWorker, virtual: VirtualWorker, requests: list[Request], found: Found, share: float, quiet: Quiet
) -> dict[str, Any]:
    guessed = virtual.open(requests)
    seen = await quiet.measured(f"{share:.1f}", lambda: worker.open(requests))
    found.ttft[share].predicted.extend(guessed)
    found.ttft[share].measured.extend(seen)
    _say(f"{share:.0%} of the knee", "ttft", _cuts(guessed), _cuts(seen))
    return {"predicted": _cuts(guessed), "measured": _cuts(seen), "requests": len(seen)}


def _cuts(values: list[float]) -> list[float]:
    return [percentile(values, 0.5), percentile(values, 0.95)]


def _say(what: str, unit: str, predicted: list[float], measured: list[float]) -> None:
    pairs = "  ".join(f"{one:.3g} / {other:.3g}" for one, other in zip(predicted, measured, strict=True))
    console.print(f"  {what:28} {unit} predicted / measured: {pairs}")


def error(predicted: float, measured: float) -> float:
    """How far the prediction lies from what was measured, as a signed fraction of it."""
    return predicted / measured - 1.0


def report(found: Found) -> dict[str, Any]:
    """The table, the summary line, the figures."""
    table = Table("load", "figure", "predicted", "measured", "error", box=None, pad_edge=False)
    predicted, measured = (statistics.mean(one) for one in (found.throughput.predicted, found.throughput.measured))
    throughput_error = error(predicted, measured)
    name = f"closed, {STREAMS} streams"
    table.add_row(name, "tokens/s", f"{predicted:.1f}", f"{measured:.1f}", f"{throughput_error:+.1%}")
    details: dict[str, Any] = {}
    for share, pair in sorted(found.ttft.items()):
        guessed, seen = _cuts(pair.predicted), _cuts(pair.measured)
        errors = [error(one, other) for one, other in zip(guessed, seen, strict=True)]
        for cut, one, other, off in zip(("p50", "p95"), guessed, seen, errors, strict=True):
            table.add_row(
                f"open, {share:.0%} of the knee", f"TTFT {cut}", f"{one:.3f} s", f"{other:.3f} s", f"{off:+.1%}"
            )
        details[f"{share:.1f}"] = {
            "predicted_s": dict(zip(("p50", "p95"), guessed, strict=True)),
            "measured_s": dict(zip(("p50", "p95"), seen, strict=True)),
            "error": dict(zip(("p50", "p95"), errors, strict=True)),
            "requests": len(pair.measured),
        }
    console.print(table)
    ttft_error = max(abs(off) for one in details.values() for off in one["error"].values())
    by_round = [error(*one) for one in zip(found.throughput.predicted, found.throughput.measured, strict=True)]
    console.print(
        f"bench-simfidelity: throughput off by {abs(throughput_error):.1%} (rounds {min(by_round):+.1%} to "
        f"{max(by_round):+.1%}), TTFT by {ttft_error:.1%} at most ({len(found.rounds)} rounds)",
        soft_wrap=True,
    )
    return {
        "throughput_error": abs(throughput_error),
        "ttft_error": ttft_error,
        "throughput_tokens_per_s": {"predicted": predicted, "measured": measured, "error_by_round": by_round},
        "ttft": details,
        "rounds": found.rounds,
    }


async def _measure(model: Path, rounds: int, profiles: Path) -> Found:
    found = Found()
    async with RealWorker(model, this_machine()) as worker:
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}")
            await one_round(worker, profiles / f"profile_{number + 1}.toml", found)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quantization", default="q8_0")
    parser.add_argument("--out", type=Path, default=Path("build/bench/simfidelity.json"))
    arguments = parser.parse_args()
    set_up_logging("warning")
    quieten_llama()
    model = make(Path("build/models"), [arguments.quantization])[arguments.quantization]
    profiles = arguments.out.parent / "simfidelity"
    profiles.mkdir(parents=True, exist_ok=True)
    found = asyncio.run(_measure(model, arguments.rounds, profiles))
    figures = report(found) | {"quantization": arguments.quantization}
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
