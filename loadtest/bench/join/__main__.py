"""``make bench-join``: every part in turn, its table, one summary line, ``build/bench/join.json``. A part that finds
something not as it should be says so, and the status is 1.

Examples: ``make bench-join``, ``make bench-join ARGS='--part up_speed'``, ``make test-roles ARGS='--role base'``
"""

import argparse
import sys
from collections.abc import Callable, Mapping

from loadtest.bench.figures import keep
from loadtest.bench.join import bare, roles, up_speed

Part = Callable[[argparse.Namespace, list[str]], Mapping[str, object]]
PARTS: dict[str, Part] = {
    "up_speed": lambda options, _: up_speed.measure(options),
    "roles": roles.measure,
    "bare": bare.measure,
}
"""Each prints its table and returns its figures; what is wrong it adds to the list it is given, a line each."""


def main() -> int:
    """Command line; exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one (may be given again)")
    parser.add_argument("--without-ray", action="store_true", help="up_speed: plain uvicorn instead of Ray Serve")
    parser.add_argument("--role", choices=roles.NAMES, action="append", help="roles: only this one")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    wrong: list[str] = []
    for name in options.part or PARTS:
        figures |= PARTS[name](options, wrong)
    path = keep("join", figures)
    shown = (f"{name} {value:.3g}" for name, value in figures.items() if isinstance(value, float))
    print(", ".join(shown) + f": {path}")
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
