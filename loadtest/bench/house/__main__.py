"""``make bench-house``: command line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.bench.house.checkouts import BASE_COMMIT, Checkout
from loadtest.bench.house.decision_time import decide, prefix_index
from loadtest.bench.house.ratios import in_turn
from loadtest.bench.house.report import Measured, sizes, write
from loadtest.bench.house.router_cpu import carry
from loadtest.bench.house.same_placement import compare

OUT = Path("build/bench/house.json")
BASE = Path("build/base")


def main() -> None:
    """Compare, print, write. Exits with 1 where decisions differ that were to be the same."""
    options = _arguments()
    folder: Path | None = options.base_dir
    base = Checkout.base(options.base, BASE) if folder is None else Checkout(name="base", folder=folder.resolve())
    new = Checkout.here()
    if options.placement:
        sys.exit(_placement(base, new, options.only))
    with TemporaryDirectory(prefix="allsorts-house-") as scratch:
        write(_measure(base, new, options, Path(scratch), print), options.out)


def _measure(
    base: Checkout, new: Checkout, options: argparse.Namespace, scratch: Path, say: Callable[[str], object]
) -> Measured:
    say(f"decisions, microseconds (p50) at 50 and 1,000 workers; base is {options.base_dir or options.base}")
    decisions = in_turn(base, new, options.decision_rounds, decide, say)
    prefix = prefix_index(new)
    say(f"the router's CPU for {options.streams} streams, by 1,000")
    carried = in_turn(base, new, options.rounds, lambda order: carry(order, new, scratch, options.streams), say)
    return Measured(
        base=str(options.base_dir or options.base),
        streams=options.streams,
        decisions=decisions,
        carried=carried,
        prefix=prefix,
        sizes={checkout.name: sizes(checkout.folder) for checkout in (base, new)},
    )


def _placement(base: Checkout, new: Checkout, only: str) -> int:
    found, cells = compare(base, new, only)
    for one in found:
        print(one)
    verdict = f"{len(found)} come out otherwise" if found else "all alike, every figure and every request"
    print(f"bench-house: the short grid's {cells} cells under both checkouts: {verdict}")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.house", description=__doc__)
    parser.add_argument("--base", default=BASE_COMMIT, help="the commit to compare with")
    parser.add_argument("--base-dir", type=Path, help="a checkout of it that is there already")
    parser.add_argument("--rounds", type=int, default=7, help="of the router's CPU")
    parser.add_argument("--decision-rounds", type=int, default=11, help="of the time a decision takes")
    parser.add_argument("--streams", type=int, default=1000, help="a round")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--placement", action="store_true", help="only: do both decide alike, request by request")
    parser.add_argument("--only", default="", help="with --placement: cells whose name contains this")
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    main()
