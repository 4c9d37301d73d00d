"""What the router's own watch of its event loop said: steps that held it, in processor time, and what they were."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

_COUNT = re.compile(r"^allsorts_loop_stall_seconds_count(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
_SUM = re.compile(r"^allsorts_loop_stall_seconds_sum(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
MOST_CULPRITS = 5


@dataclass(frozen=True, slots=True)
class Stalls:
    """Since the router started; zeros where nobody answered."""

    steps: int = 0
    seconds: float = 0.0


async def stalls_of(url: str, headers: dict[str, str]) -> Stalls:
    """By the router's metrics."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        timeout = aiohttp.ClientTimeout(total=10)
        session = aiohttp.ClientSession(timeout=timeout, headers=headers)
        async with session, session.get(f"{url}/metrics") as reply:
            text = await reply.text()
            count, seconds = _COUNT.search(text), _SUM.search(text)
            if count and seconds:
                return Stalls(int(float(count[1])), float(seconds[1]))
    return Stalls()


def culprits(lines: Iterable[bytes]) -> list[str]:
    """Of the router's log lines: which steps were long, the longest first, with the ms of their longest and how often.

    >>> culprits([b'{"event": "loop.stalled", "seconds": 0.07, "worked": 0.06, "culprit": "a.py:1 f"}', b"other"])
    ['a.py:1 f (60 ms, 1x)']
    """
    longest: dict[str, float] = {}
    times: Counter[str] = Counter()
    for line in lines:
        if b"loop.stalled" not in line:
            continue
        with contextlib.suppress(msgspec.DecodeError, ValueError):
            said = msgspec.json.decode(line, type=dict[str, object])
            name, worked = str(said.get("culprit")), float(str(said.get("worked", 0)))
            longest[name] = max(longest.get(name, 0.0), worked)
            times[name] += 1
    ordered = sorted(longest, key=lambda name: -longest[name])[:MOST_CULPRITS]
    return [f"{name} ({1000 * longest[name]:.0f} ms, {times[name]}x)" for name in ordered]


def culprits_in(log: Path, since: int) -> list[str]:
    """Of what stands in ``log`` behind its first ``since`` bytes."""
    with log.open("rb") as file:
        file.seek(since)
        return culprits(file)
