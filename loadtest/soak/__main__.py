"""``make soak``: an hour at 70% load while workers join, leave and die and clients hang up; 1 if anything grew."""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from loadtest.bench.figures import keep
from loadtest.soak.crowd import Crowd
from loadtest.soak.flat import Held, Verdict, left_over, verdicts
from loadtest.soak.pool import Pool

RATE = 14.0
"""Requests a second: 70% of what the workers that stay can answer (three of 16 slots; 40 tokens on average, of 66 ms a
step when full: 18 a second, and two in three of one of them for the other model).
"""
SAMPLES = 240
MOST_UNSERVED = 0.02
"""Share of the requests that may end otherwise than complete or left by their client: those a worker dies under go on
elsewhere, but for those of a model that just then nobody else serves.
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--change-every", type=float, default=8.0, help="seconds between joins and leaves")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="allsorts-soak-") as folder:
        length_s = 60.0 * options.minutes
        wrong = asyncio.run(soak(Path(folder), length_s, options.rate, options.change_every, options.seed))
    sys.exit(1 if wrong else 0)


async def soak(folder: Path, length_s: float, rate: float, change_every_s: float, seed: int) -> list[str]:
    """Run, print and keep what was held; returns what is wrong, in words."""
    with Pool(folder, seed) as pool:
        began = time.monotonic()
        idle = await asyncio.to_thread(pool.held, began)
        crowd, over = Crowd(pool.url, rate, seed), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.run())
            group.create_task(pool.churn(change_every_s, over))
            samples = await _watch(pool, began, length_s)
            crowd.stop()
            over.set()
        await asyncio.to_thread(pool.settled)
        after = await asyncio.to_thread(pool.held, began)
    found = verdicts(samples)
    wrong = [f"{one.figure} grew: {_shown(one)}" for one in found if not one.flat] + left_over(idle, after)
    wrong += unserved(crowd.endings)
    for one in found:
        print(f"{one.figure:<14} {_shown(one)}")
    print(f"endings: {dict(crowd.endings)}; {pool.joined} joined, {pool.left} left, {pool.killed} killed")
    print(f"idle before {_idle(idle)}; after {_idle(after)}")
    path = keep("soak", {"minutes": round(length_s / 60.0, 1), "wrong": wrong, "endings": dict(crowd.endings),
                         "verdicts": {one.figure: [one.warm, one.end, one.allowed] for one in found}})  # fmt: skip
    print("\n".join(f"WRONG: {one}" for one in wrong) or "nothing grew, nothing is left")
    asked = sum(crowd.endings.values())
    print(f"soak: {asked} requests in {length_s / 60.0:.0f} min, {len(wrong)} things wrong; {path}")
    return wrong


async def _watch(pool: Pool, began: float, length_s: float) -> list[Held]:
    """So many samples, evenly over the run."""
    samples = []
    every_s = max(length_s / SAMPLES, 1.0)
    while time.monotonic() < began + length_s:
        await asyncio.sleep(every_s)
        samples.append(await asyncio.to_thread(pool.held, began))
    return samples


def unserved(endings: dict[str, int]) -> list[str]:
    """Whether too many ended otherwise than they should, and how."""
    total = sum(endings.values())
    others = {how: count for how, count in endings.items() if how not in ("complete", "left")}
    if sum(others.values()) > MOST_UNSERVED * total:
        return [f"{sum(others.values())} of {total} requests were not served: {others}"]
    return []


def _shown(one: Verdict) -> str:
    scale, unit = (2**20, " MiB") if one.figure == "memory_bytes" else (1, "")
    warm, end, allowed = (f"{value / scale:.1f}" for value in (one.warm, one.end, one.allowed))
    return f"{warm}{unit} when warm, {end} at the end, {allowed} allowed"


def _idle(one: Held) -> str:
    counts = f"{one.descriptors:.0f} descriptors, {one.tasks:.0f} tasks, {one.claims:.0f} claims"
    return f"{one.memory_bytes / 2**20:.1f} MiB, {counts}"


if __name__ == "__main__":
    main()
