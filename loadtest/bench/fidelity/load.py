"""The requests of ``bench-simfidelity``: sizes, arrivals and seeds, the same for the real and the simulated worker."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

PROMPT = (32.0, 0.7, 8, 320)
OUTPUT = (12.0, 0.6, 4, 64)
"""Median, sigma, least and most of log-normal token counts: the shape of FACTS.md's conversation trace, scaled down
so that one thread serves some hundred requests in the minutes there are. The longest prompts take three steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; ``at_s`` from the start of its run, 0 in a closed loop."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def open_load(rng: random.Random, rate: float, seconds: float) -> list[Request]:
    """Poisson arrivals at ``rate`` a second."""
    requests: list[Request] = []
    at_s = rng.expovariate(rate)
    while at_s < seconds:
        requests.append(_request(rng, at_s))
        at_s += rng.expovariate(rate)
    return requests


def closed_load(rng: random.Random, count: int) -> list[Request]:
    """What the streams of a closed loop take one after the other."""
    return [_request(rng, 0.0) for _ in range(count)]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie, between the two nearest. NaN for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _request(rng: random.Random, at_s: float) -> Request:
    return Request(at_s=at_s, prompt_tokens=_tokens(rng, PROMPT), output_tokens=_tokens(rng, OUTPUT))


def _tokens(rng: random.Random, shape: tuple[float, float, int, int]) -> int:
    median, sigma, least, most = shape
    return min(max(round(median * rng.lognormvariate(0.0, sigma)), least), most)
