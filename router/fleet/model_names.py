"""Names of models this pool serves or served, so that a model whose workers are away is told from one nobody knows."""

from collections.abc import Iterable

from router.domain.clock import Clock

LIMIT = 10_000
"""Names remembered. At the limit those that nobody serves any more make room."""


class ModelNames:
    """``seen``: since this router started. ``expected``: served before, and their workers may still come back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, None] = {}
        self._expected: frozenset[str] = frozenset()
        self._expected_until = 0.0

    def see(self, name: str, served: Iterable[str]) -> None:
        """A worker reported it. ``served``: what workers serve now."""
        if name in self._seen:
            return
        if len(self._seen) >= LIMIT:
            here = set(served)
            self._seen = {one: None for one in self._seen if one in here}
        if len(self._seen) < LIMIT:
            self._seen[name] = None

    def expect(self, names: Iterable[str], until: float) -> None:
        """These were served before this router started. ``until``: monotonic second."""
        self._expected = frozenset(names)
        self._expected_until = until

    @property
    def expected(self) -> frozenset[str]:
        """Those still expected."""
        return self._expected if self._clock.now() < self._expected_until else frozenset()

    def all(self) -> tuple[str, ...]:
        """Seen, in the order they came, then expected."""
        return (*self._seen, *sorted(self.expected.difference(self._seen)))

    def to_keep(self, served: Iterable[str]) -> tuple[str, ...]:
        """What the next router should expect: ``served`` and what is still expected; sorted."""
        return tuple(sorted({*served} | self.expected)[:LIMIT])
