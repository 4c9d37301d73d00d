"""``make bench-join``: every part in turn, its table, one summary line, ``build/bench/join.json``.

Examples: ``make bench-join``, ``make bench-join ARGS='--part up_speed'``
"""

import argparse
from collections.abc import Callable, Mapping

from loadtest.bench.figures import keep
from loadtest.bench.join import up_speed

Part = Callable[[argparse.Namespace], Mapping[str, object]]
PARTS: dict[str, Part] = {"up_speed": up_speed.measure}
"""Each prints its table and returns its figures."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one (may be given again)")
    parser.add_argument("--without-ray", action="store_true", help="up_speed: plain uvicorn instead of Ray Serve")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for name in options.part or PARTS:
        figures |= PARTS[name](options)
    path = keep("join", figures)
    shown = (f"{name} {value:.3g}" for name, value in figures.items() if isinstance(value, float))
    print(", ".join(shown) + f": {path}")


if __name__ == "__main__":
    main()
