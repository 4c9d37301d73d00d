"""What ``bench.decision`` says of a checkout: microseconds of a placement decision, what its prefix index costs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.bench.house.checkouts import Checkout
from loadtest.bench.house.ratios import find_figures

WORKERS = ("50", "1000")
CLEAR, DISPATCH = "prefix_clear_262144_s", "prefix_dispatch_ms"
TIMEOUT_S = 300.0
_MEASURE = "import json; from loadtest.bench import decision; print(json.dumps(decision.measure()))"
_WRITTEN = Path("build/bench/decision.json")


def decide(order: Sequence[Checkout]) -> dict[str, dict[str, float]]:
    """Each in order: median microseconds a decision by number of workers, by checkout."""
    return {checkout.name: _decide(checkout) for checkout in order}


def _decide(checkout: Checkout) -> dict[str, float]:
    printed = checkout.run([sys.executable, "-P", "-c", _MEASURE], timeout_s=TIMEOUT_S)
    found = find_figures(_last_object(printed), WORKERS)
    if found is None:
        raise ValueError(f"{checkout.name}: bench.decision gives no figures for {' and '.join(WORKERS)} workers")
    return {workers: round(microseconds, 1) for workers, microseconds in found.items()}


def prefix_index(checkout: Checkout) -> dict[str, float]:
    """What its prefix index costs, by the names ``bench.decision`` gives.

    Seconds of CPU to clear an instance of 262,144 blocks, milliseconds of a dispatch of 1,000 blocks at the bound, and
    more. Raises ValueError where one of these two is missing.
    """
    checkout.run(checkout.module("loadtest.bench.decision"), timeout_s=TIMEOUT_S)
    written = json.loads((checkout.folder / _WRITTEN).read_text(encoding="utf-8"))
    found = {name: float(value) for name, value in written.items() if name.startswith("prefix_")}
    if missing := [name for name in (CLEAR, DISPATCH) if name not in found]:
        raise ValueError(f"{checkout.name}: bench.decision gives no {' and no '.join(missing)}")
    return found


def _last_object(printed: str) -> Any:
    return next((json.loads(line) for line in reversed(printed.splitlines()) if line.startswith("{")), None)
