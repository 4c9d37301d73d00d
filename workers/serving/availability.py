"""Whether this worker takes work: always, but for its owner's wish, a drain, sleep, or its end.

Routers are told of every change.
"""

import asyncio

from protos.contract.events import Leaving, LeavingKind
from workers.serving.job_table import JobTable
from workers.serving.tasks import TaskSet
from workers.session.session import Session
from workers.session.session_pool import SessionPool

DRAINED = "drained by the operator"
ASLEEP = "the machine goes to sleep"


class Availability:
    """Accepts jobs or not, and says so. A drain outlasts a sleep: only an operator takes it back. What the owner
    closed, only the owner opens.
    """

    def __init__(self, jobs: JobTable, sessions: SessionPool, tasks: TaskSet) -> None:
        self._jobs = jobs
        self._sessions = sessions
        self._tasks = tasks
        self._stopping = False
        self._asleep = False
        self._drained = False
        self._closed_for = ""
        self._owner_reason = ""  # why the owner wants no work taken; empty: it may be
        self._returns: dict[str, asyncio.Task[None]] = {}  # by reason: what is not finished then goes back

    @property
    def stopping(self) -> bool:
        """Whether the worker is on its way out."""
        return self._stopping

    @property
    def asleep(self) -> bool:
        """Whether sleep was announced and the machine is not awake yet."""
        return self._asleep

    def tell(self, session: Session) -> None:
        """Say on a session that has just opened that no work is taken, if so."""
        if self._asleep:
            session.put_event(Leaving(kind=LeavingKind.SLEEPING, reason="the machine sleeps"))
        elif self._jobs.closed_because:
            session.put_event(Leaving(kind=LeavingKind.DRAINING, reason=self._closed_for))

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
        self._return_later(DRAINED, deadline_s)

    def undrain(self) -> None:
        """Take work again, unless the owner wants none taken."""
        self._drained = self._asleep = False
        self._forget_return(DRAINED)
        self._settle("undrained by the operator")

    def close_for_owner(self, reason: str, deadline_s: float) -> None:
        """Take no more work until the owner opens again; what is not finished after ``deadline_s`` goes back. Told the
        same again, nothing changes.
        """
        if reason == self._owner_reason:
            return
        self._forget_return(self._owner_reason)
        self._owner_reason = reason
        if self._asleep or self._stopping:
            return  # nothing runs, or what runs has its deadline
        self._close(LeavingKind.DRAINING, reason)
        self._return_later(reason, deadline_s)

    def open_for_owner(self) -> None:
        """The owner wants work taken; a drain or a sleep stays what it is."""
        if not self._owner_reason:
            return
        self._forget_return(self._owner_reason)
        self._owner_reason = ""
        if not self._asleep:
            self._settle("resumed by its owner")

    def toggle_sleep(self) -> None:
        """Asleep, or awake again."""
        if self._asleep:
            self.wake()
        else:
            self.sleep()

    def sleep(self) -> None:
        """Announce sleep and give back what runs."""
        if self._asleep:
            return
        self._asleep = True
        self._close(LeavingKind.SLEEPING, ASLEEP)
        self._jobs.return_all(ASLEEP)

    def wake(self) -> None:
        """Take work again, unless its owner paused it or an operator had drained it."""
        if not self._asleep:
            return
        self._asleep = False
        self._settle("the machine is awake")

    def _return_later(self, reason: str, deadline_s: float) -> None:
        self._forget_return(reason)
        self._returns[reason] = self._tasks.spawn(self._return_after(reason, deadline_s), f"return: {reason}")

    async def _return_after(self, reason: str, deadline_s: float) -> None:
        if not await self._jobs.drained(deadline_s):
            self._jobs.return_all(f"not finished {deadline_s:g} s after this: {reason}")

    def _close(self, kind: LeavingKind, reason: str) -> None:
        self._closed_for = reason
        self._jobs.closed_because = f"the worker is {kind}: {reason}"
        self._sessions.broadcast(Leaving(kind=kind, reason=reason))

    def _settle(self, opened: str) -> None:
        """Something that kept the door shut is gone: what still does is told, else ``opened``."""
        if self._stopping:
            return
        still = self._owner_reason or (DRAINED if self._drained else "")
        if still:
            self._close(LeavingKind.DRAINING, still)
            return
        self._jobs.closed_because = ""
        self._sessions.broadcast(Leaving(kind=LeavingKind.AWAKE, reason=opened))

    def _forget_return(self, reason: str) -> None:
        task = self._returns.pop(reason, None)
        if task is not None:
            task.cancel()
