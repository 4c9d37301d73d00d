"""Two checkouts measured in turn: ratios are taken within a round, so that what the machine does touches both sides."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from loadtest.bench.house.checkouts import Checkout

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """New by base: the median over the rounds, the least and the largest."""

    median: float
    low: float
    high: float


def ratio(base: Sequence[float], new: Sequence[float]) -> Ratio:
    """Of figures in order of rounds. Raises ValueError where one side has more."""
    values = [one / other for one, other in zip(new, base, strict=True)]
    return Ratio(median=statistics.median(values), low=min(values), high=max(values))


def in_turn(
    base: Checkout,
    new: Checkout,
    rounds: int,
    measure: Callable[[Sequence[Checkout]], Mapping[str, T]],
    say: Callable[[str], object],
) -> dict[str, list[T]]:
    """Both measured in each round, the other one first each time: by checkout, in order of rounds."""
    found: dict[str, list[T]] = {base.name: [], new.name: []}
    for number in range(rounds):
        this = measure((base, new) if number % 2 == 0 else (new, base))
        for name, one in this.items():
            found[name].append(one)
        say(f"  round {number + 1} of {rounds}: base {found[base.name][-1]}, new {found[new.name][-1]}")
    return found


def find_figures(value: Any, names: Sequence[str]) -> dict[str, float] | None:
    """The first mapping with all of these names, however deep in what a benchmark wrote."""
    if not isinstance(value, Mapping):
        return None
    if all(isinstance(value.get(name), int | float) for name in names):
        return {name: float(value[name]) for name in names}
    return next((found for one in value.values() if (found := find_figures(one, names)) is not None), None)
