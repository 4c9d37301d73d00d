"""``make bench-machines``: every part in turn, its table, one summary line, ``build/bench/machines.json``.

Examples: ``make bench-machines``, ``make bench-machines ARGS='--part existing_server --streams 400'``
"""

import argparse
from collections.abc import Callable, Mapping

from loadtest.bench.figures import keep
from loadtest.bench.machines import existing_server, join_curves, prediction, priced_fleet

Part = Callable[[argparse.Namespace], Mapping[str, float]]
PARTS: dict[str, Part] = {
    "prediction": prediction.measure,
    "join_curves": join_curves.measure,
    "priced_fleet": priced_fleet.measure,
    "existing_server": existing_server.measure,
}
"""Each prints its table and returns its figures."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one (may be given again)")
    parser.add_argument("--streams", type=int, default=800, help="through each way in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    for name in options.part or PARTS:
        figures |= PARTS[name](options)
    path = keep("machines", figures)
    print(", ".join(f"{name} {value:.3g}" for name, value in figures.items()) + f": {path}")


if __name__ == "__main__":
    main()
