"""Who may ask a draft: the targets that a router paired with it. Pure."""

from collections.abc import Hashable, Iterable


class PairedTargets:
    """Told by every router replica for itself; whoever any of them names may ask.

    >>> targets = PairedTargets()
    >>> targets.tell("router-0", ["mac-1"]), targets.tell("router-1", [])
    ({'mac-1'}, set())
    >>> targets.tell("router-0", ["mac-2"]), targets.may_ask("mac-1"), targets.may_ask("mac-2")
    ({'mac-2'}, False, True)
    """

    def __init__(self) -> None:
        self._by_replica: dict[Hashable, frozenset[str]] = {}

    def tell(self, replica: Hashable, worker_ids: Iterable[str]) -> set[str]:
        """What one replica says now; the answer is who is new."""
        before = self.all
        self._by_replica[replica] = frozenset(worker_ids)
        return set(self.all - before)

    @property
    def all(self) -> frozenset[str]:
        """Everybody who may."""
        return frozenset().union(*self._by_replica.values())

    def may_ask(self, worker_id: str) -> bool:
        """Whether a router sent this worker here."""
        return worker_id in self.all
