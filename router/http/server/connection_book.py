"""Who is connected, and who gives way when there are as many connections as this process may hold.

Whoever has been waiting for longest for its own client's bytes goes, at the address that holds most connections: a
crowd that says nothing, or says it slowly, makes room for those that ask. Connections with a request under way stay.
"""

from collections import OrderedDict
from typing import Protocol


class Connection(Protocol):
    """One client's connection."""

    def give_way(self) -> None:
        """Close at once."""
        ...


class ConnectionBook:
    """One per listening process. ``limit``: connections at most.

    >>> book = ConnectionBook(2)
    >>> class Silent:
    ...     def give_way(self): print("gone")
    >>> for one in (Silent(), Silent(), Silent()):
    ...     book.opened(one, "10.0.0.1")
    gone
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._addresses: dict[Connection, str] = {}
        self._waiting: dict[str, OrderedDict[Connection, None]] = {}  # by address, the longest waiting first
        self.gave_way = 0

    def __len__(self) -> int:
        return len(self._addresses)

    def opened(self, connection: Connection, address: str) -> None:
        """A client connected, and waits to be heard. May make another, or this one, give way."""
        self._addresses[connection] = address
        self.waits(connection)
        if len(self._addresses) > self._limit:
            self._make_room()

    def waits(self, connection: Connection) -> None:
        """Its client is to say something: a request, or the rest of one. It keeps its place while it is slow."""
        address = self._addresses.get(connection)
        if address is not None:
            self._waiting.setdefault(address, OrderedDict())[connection] = None

    def busy(self, connection: Connection) -> None:
        """A whole request came: it waits for us."""
        address = self._addresses.get(connection)
        if address is not None:
            self._no_longer_waits(connection, address)

    def closed(self, connection: Connection) -> None:
        """It is gone. Idempotent."""
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._no_longer_waits(connection, address)

    def _no_longer_waits(self, connection: Connection, address: str) -> None:
        waiting = self._waiting.get(address)
        if waiting is not None:
            waiting.pop(connection, None)
            if not waiting:
                del self._waiting[address]

    def _make_room(self) -> None:
        """There is always somebody: who was just opened waits, too."""
        most = max(self._waiting.values(), key=len)
        longest = next(iter(most))
        self.gave_way += 1
        self.closed(longest)
        longest.give_way()
