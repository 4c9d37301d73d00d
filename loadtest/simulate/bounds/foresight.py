"""A reference that knows the future: which requests to turn away at the door, found by trying, with the run as judge.

What a policy at its knee cannot know is what comes after a long prompt. Here it is known: the search plays the same
arrivals again and again, each time with some of them turned away before they reach the router, and keeps what helps
more requests than it costs. Who is turned away counts as missed. Everything else is decided as the given run decides
it, so the result is a load that can be held by somebody, no bound: a better search may find more.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from loadtest.simulate.bounds.demands import uncached_tokens
from loadtest.simulate.metrics import Served, window
from loadtest.simulate.traffic import Arrival

TRIES = 20
"""Runs of one load at most. On the mixed company's azure-like traffic a little beyond the knee, six of the seven
requests that forty tries gained were gained by the fifteenth.
"""

MOVES = 8
"""Requests turned away at once in the first tries; fewer as tries fail."""

BEFORE_S = 12.0
"""Who came so long before a request that missed may be the one to turn away in its place..."""

DEAREST = 3
"""...if it is among so many with the most to prefill."""

BACK = 0.15
"""Share of those turned away who are let in again on a try with all moves."""

Play = Callable[[Sequence[Arrival]], list[Served]]
"""Plays arrivals numbered from 0; one ``Served`` each, in order. Shorter when it was given up."""


def foresee(arrivals: Sequence[Arrival], play: Play, *, allowed: float, seed: int, tries: int = TRIES) -> list[Served]:
    """The best run found: one ``Served`` for each arrival. Ends early when no more than ``allowed`` of those that count
    have missed; does not begin when the first run is given up.
    """
    first = play(arrivals)
    if len(first) < len(arrivals):
        return first
    search = _Search(arrivals, play, random.Random(f"{seed}/foresight"))
    search.take(first, set())
    for _ in range(tries - 1):
        if len(search.missed) <= allowed * len(search.counted):
            break
        search.step()
    return search.best


class _Search:
    """Hill climbing over the set of those turned away."""

    def __init__(self, arrivals: Sequence[Arrival], play: Play, rng: random.Random) -> None:
        self._arrivals = arrivals
        self._play = play
        self._rng = rng
        self._moves = float(MOVES)
        self._prefill = uncached_tokens(arrivals)
        self._away: set[int] = set()
        self.counted = window(len(arrivals))
        self.best: list[Served] = []
        self.missed: list[int] = []

    def take(self, served: list[Served], away: set[int]) -> None:
        """Make this run the best so far."""
        self.best, self._away = served, away
        self.missed = self._missed(served)

    def step(self) -> None:
        """Change a few, play, keep what is no worse."""
        away = self._changed()
        served = self._without(away)
        if len(served) == len(self._arrivals) and len(self._missed(served)) <= len(self.missed):
            self.take(served, away)
        else:
            self._moves = max(0.8 * self._moves, 1.0)

    def _missed(self, served: Sequence[Served]) -> list[int]:
        return [n for n in self.counted if not served[n].good]

    def _changed(self) -> set[int]:
        """For some who missed, somebody dearer from shortly before is turned away, or, if refused anyway, they are."""
        share = self._moves / MOVES
        away = {n for n in sorted(self._away) if self._rng.random() >= BACK * share}
        for number in self._rng.sample(self.missed, min(int(self._moves), len(self.missed))):
            others = self._in_its_place(number)
            if others:
                away.add(self._rng.choice(others[:DEAREST]))
        return away

    def _in_its_place(self, number: int) -> list[int]:
        missed = self._arrivals[number]
        found = [
            one.number
            for one in self._arrivals[self.counted.start : self.counted.stop]
            if one.model == missed.model
            and missed.at - BEFORE_S <= one.at <= missed.at
            and one.number not in self._away
            and (self._prefill[one.number] > self._prefill[number] or one is missed)
        ]
        return sorted(found, key=lambda n: -float(self._prefill[n]))

    def _without(self, away: set[int]) -> list[Served]:
        """A run without those turned away, in everybody's own numbers."""
        kept = [one for one in self._arrivals if one.number not in away]
        found = self._play([replace(one, number=place) for place, one in enumerate(kept)])
        if len(found) < len(kept):
            return []
        mine = {one.number: replace(served, arrival=one) for one, served in zip(kept, found, strict=True)}
        return [mine.get(one.number) or Served(arrival=one, shed="foreseen") for one in self._arrivals]
