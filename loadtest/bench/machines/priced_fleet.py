"""A simulated fleet with one recorded H100 in it: what its goodput is by the price it is placed at.

The true price is its own curve. Beside it: the curves that the join benchmark finds on the emulated card, the straight
line nearest to them, and the line that was told on the day of the recording. Whatever the price, the router goes on
learning from the steps it sees; everything else about the fleet is known and the same. Each is run on the same requests
at one rate, a little more than the fleet can keep up: a knee of its own would be found to five percent only.
"""

import argparse
import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from loadtest.emulate.joined import SLOTS, chunk_of, join
from loadtest.emulate.profile import profile_of
from loadtest.emulate.recording import Recording, read_recording
from loadtest.simulate.fleet import FleetSpec, read_fleet
from loadtest.simulate.metrics import figures
from loadtest.simulate.traffic import azure_like
from loadtest.simulate.world import Setup, World
from protos.contract.worker import Speed

CARD = "h100"
REQUESTS = 300
SEEDS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """The card with one recorded model, and the machines beside it: (profile, quantization, how many)."""

    recording: str
    model: str
    others: tuple[tuple[str, str, int], ...]
    rate: float  # requests a second


COMPANIES = (
    Company(
        recording="h100-llama-8b-q4_k_m",
        model="llama-3.1-8b",
        others=(("m4-max-128gb", "q4_k_m", 2), ("rtx-4090", "q4_k_m", 1)),
        rate=8.0,
    ),
    Company(
        recording="h100-llama-70b-q4_k_m",
        model="llama-3.3-70b",
        others=(("m2-ultra-192gb", "q4_k_m", 2), ("m3-ultra-256gb", "q4_k_m", 1)),
        rate=0.6,
    ),
)


def measure(options: argparse.Namespace) -> Mapping[str, float]:
    """The table; ``priced_by_curves`` and ``priced_by_a_line``: shares of the goodput at true prices, the worst."""
    del options
    shares: dict[str, list[float]] = {}
    print("goodput of a fleet with one H100 under llama.cpp, requests/s inside their targets, by its price")
    print(f"{'model on the card':24} {'true':>7} {'curves':>14} {'line':>14} {'that day':>14}")
    for company in COMPANIES:
        found = goodputs(company)
        cells = []
        for name in ("curves", "line", "that day"):
            share = found[name] / found["true"]
            shares.setdefault(name, []).append(share)
            cells.append(f"{found[name]:6.2f} ({share:5.1%})")
        print(f"{company.recording:24} {found['true']:7.2f} {cells[0]:>14} {cells[1]:>14} {cells[2]:>14}")
    return {"priced_by_curves": min(shares["curves"]), "priced_by_a_line": min(*shares["line"], *shares["that day"])}


def goodputs(company: Company, *, requests: int = REQUESTS, seeds: Sequence[int] = SEEDS) -> dict[str, float]:
    """Goodput at each price, the mean over seeds."""
    recording = read_recording(company.recording)
    fleet = fleet_of(company, recording)
    prices = asyncio.run(prices_of(recording, fleet))
    return {
        name: fmean(_goodput(priced(fleet, price), company.rate, requests, seed) for seed in seeds)
        for name, price in prices.items()
    }


async def prices_of(recording: Recording, fleet: FleetSpec) -> dict[str, Speed]:
    """By name; "true" is what the simulated card really is."""
    (card,) = (node for node in fleet.nodes if node.node == CARD)
    true = card.instance.speed
    assert true is not None
    curves, _ = await join(recording)
    base_s, per_sequence_s, per_context_token_s, rate, prefill_base_s = recording.joins[-1]
    that_day = Speed(
        base_s=base_s,
        per_sequence_s=per_sequence_s,
        per_context_token_s=per_context_token_s,
        prefill_tokens_per_s=rate,
        prefill_base_s=prefill_base_s,
        measured=True,
    )
    line = replace(curves, decode_curve=(), prefill_curve=())
    return {"true": true, "curves": curves, "line": line, "that day": that_day}


def fleet_of(company: Company, recording: Recording) -> FleetSpec:
    """The card and the others, all as they say they are."""
    with TemporaryDirectory() as folder:
        profile = Path(folder) / "card.toml"
        profile.write_text(profile_of(recording, slots=SLOTS, chunk_tokens=chunk_of(recording)), encoding="utf-8")
        rows = [
            (CARD, str(profile), recording.quantization, 1),
            *((f"{one}-", one, *rest) for one, *rest in company.others),
        ]
        lines = ["[fleet]", 'name = "priced"']
        for node, path, quantization, count in rows:
            lines += [
                "[[worker]]", f'node = "{node}"', f'profile = "{path}"', f'model = "{company.model}"',
                f'quantization = "{quantization}"', f"count = {count}", "context_tokens = 16384",
            ]  # fmt: skip
        lines += ["[[demand]]", f'model = "{company.model}"']
        file = Path(folder) / "fleet.toml"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_fleet(file)


def priced(fleet: FleetSpec, price: Speed) -> FleetSpec:
    """The fleet whose card says this of itself."""
    nodes = [
        replace(node, instance=replace(node.instance, speed=price)) if node.node == CARD else node
        for node in fleet.nodes
    ]
    return replace(fleet, nodes=tuple(nodes))


def _goodput(fleet: FleetSpec, rate: float, requests: int, seed: int) -> float:
    arrivals = azure_like(rate, requests, random.Random(seed), fleet.demand)
    world = World(Setup(fleet=fleet, policy="cost", seed=seed, spread=0.0), arrivals)
    return figures(world.run(), world.busy_s, arrivals).goodput
