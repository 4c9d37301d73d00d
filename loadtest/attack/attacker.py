"""One attacker's process: ``python -m loadtest.attack.attacker '{"attack": …}'``; prints what it saw as JSON."""

import asyncio
import sys

import msgspec

from loadtest.attack.attacks import named
from loadtest.attack.target import Target
from router.limits import raise_descriptor_limit


def main() -> None:
    """Attack, and say what was seen."""
    target = msgspec.json.decode(sys.argv[1], type=Target)
    raise_descriptor_limit()
    print(msgspec.json.encode(asyncio.run(named(target.attack).run(target))).decode())


if __name__ == "__main__":
    main()
