"""A draft worker's open door: it listens before any router hears of it, and lets in whom routers paired it with."""

from collections.abc import Callable, Hashable

from protos.contract.commands import DraftTargets
from workers.drafting.link import DraftTls
from workers.drafting.listener import DraftListener, listen
from workers.drafting.room import DraftRooms, NoRoom
from workers.drafting.service import DraftService
from workers.drafting.targets import PairedTargets
from workers.engines.base import DraftingEngine


class DraftDoor:
    """``make`` gives an engine that drafts; ``tls``: None on this machine alone."""

    def __init__(self, make: Callable[[], DraftingEngine], tls: DraftTls | None) -> None:
        self._make = make
        self._tls = tls
        self._engine: DraftingEngine | None = None
        self._targets = PairedTargets()
        self._service = DraftService(self._rooms, self._targets, tls=tls is not None)
        self._listener: DraftListener | None = None

    def make_engine(self) -> DraftingEngine:
        """The engine that answers from now on. Raises LoadError."""
        self._engine = self._make()
        return self._engine

    def _rooms(self) -> DraftRooms:
        if self._engine is None:
            raise NoRoom("the draft worker has not started yet")
        return self._engine

    async def open(self, where: str, *, seen_from: str) -> str:
        """Listen at ``where`` (empty: any port, beyond this machine only with certificates); the answer is the address
        that targets dial. Raises CannotListen, OSError.
        """
        default = "127.0.0.1:0" if self._tls is None else "0.0.0.0:0"
        self._listener = await listen(self._service, where or default, self._tls, seen_from=seen_from)
        return self._listener.address

    def tell(self, replica: Hashable, command: DraftTargets) -> None:
        """A router says whom it paired."""
        self._targets.tell(replica, command.worker_ids)
        self._service.recheck()

    async def close(self) -> None:
        """End all calls. Idempotent."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.stop()
