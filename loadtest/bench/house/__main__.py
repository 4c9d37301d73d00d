"""``make bench-house``: command line."""

import argparse
import sys
from pathlib import Path

from loadtest.bench.house.checkouts import BASE_COMMIT, Checkout
from loadtest.bench.house.same_placement import compare

OUT = Path("build/bench")


def main() -> None:
    """Compare, print, write. Exits with 1 where decisions differ that were to be the same."""
    options = _arguments()
    folder: Path | None = options.base_dir
    base = Checkout.base(options.base, Path("build/base")) if folder is None else Checkout(name="base", folder=folder)
    sys.exit(_placement(base, Checkout.here(), options.only))


def _placement(base: Checkout, new: Checkout, only: str) -> int:
    found, cells = compare(base, new, OUT, only)
    for one in found:
        print(one)
    verdict = f"{len(found)} come out otherwise" if found else "all alike, every figure and every request"
    print(f"bench-house: the short grid's {cells} cells under both checkouts: {verdict}")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench.house", description=__doc__)
    parser.add_argument("--base", default=BASE_COMMIT, help="the commit to compare with")
    parser.add_argument("--base-dir", type=Path, help="a checkout of it that is there already")
    parser.add_argument("--placement", action="store_true", help="only: do both decide alike, request by request")
    parser.add_argument("--only", default="", help="cells of the short grid whose name contains this")
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    main()
