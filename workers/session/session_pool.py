"""The sessions of a worker: one per router replica, following the replica list."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

import structlog

from protos.contract.events import WorkerEvent
from protos.contract.worker import Replica
from workers.session.session import Session, SessionOwner

log = structlog.get_logger(__name__)

POLL_S = 0.02

ALONE_S = 10.0
"""Without an open session from then on a worker is unhealthy: it serves nobody. Said then, and ever more seldom."""
SAID_EVERY_S = 600.0

MAX_SESSIONS = 64
"""More replicas than this in a list are left out: a list that long is a mistake or an attack."""


class SessionPool:
    """Opens sessions to replicas it does not know and closes those that vanished.

    ``seeds`` are the addresses the worker was given; they are dialled again whenever no session is open, so that
    a worker that lost every replica finds back without help. There are sessions from ``open_all`` on.
    """

    def __init__(self, seeds: Iterable[str], open_session: Callable[[str, SessionOwner], Session]) -> None:
        self._seeds = tuple(dict.fromkeys(seeds))
        self._open_session = open_session
        self._owner: SessionOwner | None = None
        self._sessions: dict[str, tuple[Session, asyncio.Task[None]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Session]:
        """Every session, open or not."""
        return iter([session for session, _ in self._sessions.values()])

    def __len__(self) -> int:
        """Sessions there are, open or not."""
        return len(self._sessions)

    @property
    def open_count(self) -> int:
        """Sessions that are welcomed and alive."""
        return sum(session.is_open for session in self)

    async def watch(self, *, alone_s: float = ALONE_S, every_s: float = 1.0) -> None:
        """Says, for as long as it runs, when no router has this worker, and when one has it again."""
        since, say_after_s, said = time.monotonic(), alone_s, False
        while True:
            await asyncio.sleep(every_s)
            alone_for_s = time.monotonic() - since
            if self.open_count:
                if said:
                    log.info("worker.healthy", after_s=round(alone_for_s))
                since, say_after_s, said = time.monotonic(), alone_s, False
            elif alone_for_s >= say_after_s:
                log.warning(
                    "worker.unhealthy",
                    reason="no router has this worker: it serves nobody; see session.failed",
                    for_s=round(alone_for_s),
                    routers=[session.address for session in self] or list(self._seeds),
                )
                said, say_after_s = True, alone_for_s + min(max(alone_for_s, every_s), SAID_EVERY_S)

    def open_all(self, owner: SessionOwner) -> None:
        """Open a session to every address the worker was given, for ``owner``."""
        self._owner = owner
        self._dial_seeds()

    def add_seeds(self, addresses: Iterable[str]) -> None:
        """Learn addresses (from enrolment) and dial them, once sessions may be opened."""
        self._seeds = tuple(dict.fromkeys((*self._seeds, *addresses)))[:MAX_SESSIONS]
        self._dial_seeds()

    def _dial_seeds(self) -> None:
        for address in self._seeds:
            self._open(address)

    def follow(self, replicas: tuple[Replica, ...]) -> None:
        """Make the sessions match the list. An empty list says nothing and changes nothing."""
        if not replicas:
            return
        replicas = replicas[:MAX_SESSIONS]
        known = {session.replica_id for session in self if session.replica_id}
        for replica in replicas:
            # A seed may reach the same replica by another name: one session each is enough.
            if replica.replica_id not in known:
                self._open(replica.address)
        ids = {replica.replica_id for replica in replicas}
        addresses = {replica.address for replica in replicas}
        for session in self:
            if session.replica_id not in ids and session.address not in addresses and session.replica_id:
                self._close(session, "the replica left the list")

    def welcomed(self, session: Session) -> bool:
        """Whether to keep a session just welcomed: another open one to the same replica makes it superfluous."""
        twins = [one for one in self if one is not session and one.is_open and one.replica_id == session.replica_id]
        if twins:
            self._close(session, f"the same replica as {twins[0].address}")
        return not twins

    def broken(self) -> None:
        """A session broke: with none left open, the seeds are dialled again."""
        if self.open_count == 0:
            self._dial_seeds()

    def broadcast(self, event: WorkerEvent) -> None:
        """Queue an event on every open session."""
        for session in self:
            session.put_event(event)

    def touch(self) -> None:
        """The load may have changed."""
        for session in self:
            session.touch()

    def redial(self, reason: str) -> None:
        """Give every call up and dial again at once: they may be dead without knowing it."""
        for session in self:
            session.drop(reason)

    async def flushed(self, within_s: float) -> bool:
        """Wait until routers have taken what they were told, but not longer."""
        deadline = time.monotonic() + within_s
        while not all(session.has_said_all for session in self):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def close(self, flush_s: float) -> None:
        """Send what waits, then end every session. None is opened any more."""
        self._owner = None
        entries = list(self._sessions.values())
        await asyncio.gather(*(session.close(flush_s) for session, _ in entries), *self._closing)
        for _, task in entries:
            task.cancel()
        await asyncio.gather(*(task for _, task in entries), return_exceptions=True)
        self._sessions.clear()

    def _open(self, address: str) -> None:
        if self._owner is None or address in self._sessions or len(self._sessions) >= MAX_SESSIONS:
            return
        session = self._open_session(address, self._owner)
        task = asyncio.create_task(session.run(), name=f"session {address}")
        self._sessions[address] = (session, task)
        task.add_done_callback(lambda _: self._forget(address, session))

    def _forget(self, address: str, session: Session) -> None:
        if address in self._sessions and self._sessions[address][0] is session:
            del self._sessions[address]
            self.broken()  # it ended by itself: with none left the seeds are dialled again

    def _close(self, session: Session, reason: str) -> None:
        log.info("session.closing", router=session.address, reason=reason)
        _, task = self._sessions.pop(session.address)

        async def finish() -> None:
            await session.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        closing = asyncio.create_task(finish(), name=f"closing {session.address}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
