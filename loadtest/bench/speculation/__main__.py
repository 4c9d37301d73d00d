"""``make bench-speculation``: the real model without, with, and with draft models; the governor on measured curves.

Keeps ``build/bench/speculation.json`` and ``build/bench/governor.json``.

Examples: ``make bench-speculation``, ``make bench-speculation ARGS='--part governor'``
"""

import argparse
from collections.abc import Callable

from loadtest.bench.speculation import drafters, governed, lookup
from loadtest.bench.speculation.traffic import KINDS

PARTS: dict[str, Callable[[argparse.Namespace], str]] = {
    "lookup": lookup.measure,
    "drafters": drafters.measure,
    "governor": governed.measure,
}
"""Each prints its table, keeps its figures and returns its summary."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one (may be given again)")
    parser.add_argument(
        "--traffic", choices=KINDS, action="append", help="of the part lookup only this one (may be given again)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="with and without, in turn")
    parser.add_argument("--tokens", type=int, default=200, help="of each answer")
    parser.add_argument("--model", default="build/models/smollm2-135m-q8_0.gguf", help="a GGUF file")
    parser.add_argument("--draft", default=None, help="a GGUF file that drafts (the small model as Q4_0, made)")
    options = parser.parse_args()
    print("; ".join(PARTS[name](options) for name in options.part or PARTS))


if __name__ == "__main__":
    main()
