"""Random draws that traffic is made of: lengths, gaps between arrivals, turns of a conversation."""

import math
import random
from collections.abc import Iterator

AZURE_CONTEXT, AZURE_GENERATED = (6.63, 0.99), (5.02, 0.86)
"""Log-normal fits (mu, sigma) of the Azure 2023 conversation trace, in tokens (FACTS.md)."""
AZURE_GAP_CV = 1.09
CODE_CONTEXT, CODE_GENERATED = (7.00, 1.36), (2.79, 0.85)
"""The same of its code trace."""
CODE_GAP_CV = 13.0


def lognormal(rng: random.Random, mu: float, sigma: float, least: float, most: float) -> float:
    """A log-normal value, moved to the nearer bound where it lies outside."""
    return min(max(rng.lognormvariate(mu, sigma), least), most)


def geometric(mean: float, rng: random.Random) -> int:
    """1, 2, 3, ... with so high a mean, which must be above 1."""
    return 1 + int(math.log(1.0 - rng.random()) / math.log(1.0 - 1.0 / mean))


def gamma_gaps(rate: float, cv: float, rng: random.Random) -> Iterator[float]:
    """Seconds between arrivals at ``rate`` a second, with this coefficient of variation."""
    shape = 1.0 / (cv * cv)
    while True:
        yield rng.gammavariate(shape, 1.0 / (rate * shape))


def hyperexponential_gaps(rate: float, cv: float, rng: random.Random) -> Iterator[float]:
    """Two phases with balanced means (Whitt 1982): mostly quick arrivals, now and then a long silence."""
    square = cv * cv
    quick = 0.5 * (1.0 + math.sqrt((square - 1.0) / (square + 1.0)))
    while True:
        share = quick if rng.random() < quick else 1.0 - quick
        yield rng.expovariate(2.0 * share * rate)
