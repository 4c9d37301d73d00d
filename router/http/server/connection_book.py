"""Who is connected, and who gives way when there are as many connections as this process may hold.

Whoever has been waiting for longest for its own client's bytes goes, at the address that holds most connections: a
crowd that says nothing, or says it slowly, makes room for those that ask. Connections with a request under way stay.

A crowd behind one address is not let grow to the limit: of more than ``CROWD`` that wait there, those go that have
waited for longer than a client needs that means to ask. Each costs thirty to fifty objects, and time of everybody's
whenever Python's collector looks through them.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

CROWD = 1024
"""Connections of one address that may wait for their client for as long as their other deadlines let them."""

CROWDED_S = 2.0
"""How long each of a larger crowd may: a client that opens thousands at once has them all asking by then."""

AT_ONCE = 32
"""Connections of crowds that are closed in one turn of the event loop: whoever comes again at once costs little so."""


class Connection(Protocol):
    """One client's connection."""

    def give_way(self) -> None:
        """Close at once."""
        ...


class ConnectionBook:
    """One per listening process. ``limit``: connections at most; ``now``: monotonic seconds.

    >>> book = ConnectionBook(2)
    >>> class Silent:
    ...     def give_way(self): print("gone")
    >>> for one in (Silent(), Silent(), Silent()):
    ...     book.opened(one, "10.0.0.1")
    gone
    """

    def __init__(self, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._addresses: dict[Connection, str] = {}
        self._waiting: dict[str, OrderedDict[Connection, float]] = {}  # by address, the longest waiting first
        self._crowded: dict[str, None] = {}  # addresses of which more wait than may
        self.gave_way = 0
        self.watched = False  # whoever listens calls ``thin_out``

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
        if address is None:
            return
        waiting = self._waiting.setdefault(address, OrderedDict())
        waiting.setdefault(connection, self._now())
        if len(waiting) > CROWD:
            self._crowded[address] = None

    @property
    def crowded(self) -> bool:
        """Whether ``thin_out`` has something to do, now or soon."""
        return bool(self._crowded)

    def thin_out(self) -> None:
        """Close those that have waited too long in a crowd, some at a time. Call it again while it is ``crowded``."""
        overdue = self._now() - CROWDED_S
        left = AT_ONCE
        for address in list(self._crowded):
            waiting = self._waiting.get(address, OrderedDict())
            while len(waiting) > CROWD and left and next(iter(waiting.values())) <= overdue:
                left -= 1
                self._give_way(next(iter(waiting)))
            if len(waiting) <= CROWD:
                del self._crowded[address]

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
        self._give_way(next(iter(most)))

    def _give_way(self, connection: Connection) -> None:
        self.gave_way += 1
        self.closed(connection)
        connection.give_way()
