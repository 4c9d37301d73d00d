"""Whether this worker takes work: always, but for a drain, sleep, or its end. Routers are told of every change."""

import asyncio

from protos.contract.events import Leaving, LeavingKind
from workers.serving.job_table import JobTable
from workers.serving.tasks import TaskSet
from workers.session.session import Session
from workers.session.session_pool import SessionPool

DRAINED = "drained by the operator"
ASLEEP = "the machine goes to sleep"


class Availability:
    """Accepts jobs or not, and says so. A drain outlasts a sleep: only an operator takes it back."""

    def __init__(self, jobs: JobTable, sessions: SessionPool, tasks: TaskSet) -> None:
        self._jobs = jobs
        self._sessions = sessions
        self._tasks = tasks
        self._stopping = False
        self._asleep = False
        self._drained = False
        self._drain: asyncio.Task[None] | None = None

    @property
    def stopping(self) -> bool:
        """Whether the worker is on its way out."""
        return self._stopping

    def tell(self, session: Session) -> None:
        """Say on a session that has just opened that no work is taken, if so."""
        if self._asleep:
            session.put_event(Leaving(kind=LeavingKind.SLEEPING, reason="the machine sleeps"))
        elif self._jobs.closed_because:
            session.put_event(Leaving(kind=LeavingKind.DRAINING, reason=self._jobs.closed_because))

    def stop(self, reason: str) -> None:
        """Take no more work, for good."""
        self._stopping = True
        self._close(LeavingKind.DRAINING, reason)

    def leave(self, reason: str) -> None:
        """Say goodbye."""
        self._sessions.broadcast(Leaving(kind=LeavingKind.BYE, reason=reason))

    def drain(self, deadline_s: float) -> None:
        """Take no more work; what is not finished after ``deadline_s`` goes back."""
        self._drained = True
        if self._asleep:
            return  # nothing runs, and nothing new comes before it wakes up
        self._close(LeavingKind.DRAINING, DRAINED)
        self._forget_drain()
        self._drain = self._tasks.spawn(self._return_after(deadline_s), "drain")

    def undrain(self) -> None:
        """Take work again."""
        self._open("undrained by the operator")

    def toggle_sleep(self) -> None:
        """Announce sleep and give back what runs; a second time: awake again."""
        if self._asleep:
            self.wake()
            return
        self._asleep = True
        self._close(LeavingKind.SLEEPING, ASLEEP)
        self._jobs.return_all(ASLEEP)

    def wake(self) -> None:
        """Take work again, unless an operator had drained it."""
        if not self._asleep:
            return
        if self._drained:
            self._asleep = False
            self._close(LeavingKind.DRAINING, DRAINED)
        else:
            self._open("the machine is awake")

    async def _return_after(self, deadline_s: float) -> None:
        if not await self._jobs.drained(deadline_s):
            self._jobs.return_all(f"not finished {deadline_s:g} s after the drain began")

    def _close(self, kind: LeavingKind, reason: str) -> None:
        self._jobs.closed_because = f"the worker is {kind}: {reason}"
        self._sessions.broadcast(Leaving(kind=kind, reason=reason))

    def _open(self, reason: str) -> None:
        if self._stopping:
            return
        self._forget_drain()
        self._asleep = self._drained = False
        self._jobs.closed_because = ""
        self._sessions.broadcast(Leaving(kind=LeavingKind.AWAKE, reason=reason))

    def _forget_drain(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
