"""A worker at run time: engine, sessions, signals, drain, sleep. ``workers.server`` builds it."""

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from protos.contract.commands import (
    Abort,
    AssignDraft,
    Dismiss,
    Drain,
    Embed,
    Generate,
    LoadModel,
    ReplicaList,
    RouterCommand,
    Score,
    Undrain,
    UnloadModel,
    Welcome,
)
from protos.contract.events import Leaving, LeavingKind, ModelProgress
from protos.contract.worker import Load, Profile
from workers.engines.base import Engine, EngineError, ModelSpec, StepResult
from workers.engines.step_reader import StepReader
from workers.serving.control_commands import MAX_SIDE_TASKS, SideCommand, SideWork, turned_away
from workers.serving.job_table import Dispatcher
from workers.serving.model_manager import Measure, ModelShelf
from workers.session.channel import ChannelSecurity
from workers.session.enrolment import Enrolment
from workers.session.session import Introduction, Session, SessionLimits
from workers.session.session_pool import SessionPool

log = structlog.get_logger(__name__)

ENROLMENT_HOLDS_S = 5.0
"""A worker turned away so soon after it enrolled is not wanted: asking again would go on for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """Everything a worker is made of.

    ``enrol`` asks the pool for an identity; it is called at the start when ``worker_id`` is empty, and again
    whenever a router says that it does not know the worker.
    """

    make_engine: Callable[[], Engine]
    profile: Profile
    routers: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    worker_id: str = ""
    enrol: Callable[[], Coroutine[Any, Any, Enrolment]] | None = None
    measure: Measure | None = None
    security: ChannelSecurity | None = None
    limits: SessionLimits = field(default_factory=SessionLimits)
    drain_s: float = 20.0  # how long SIGTERM lets running requests finish
    load_options: dict[str, str | int | float | bool] = field(default_factory=dict)  # of models the router loads
    on_assign_draft: Callable[[Engine, AssignDraft], None] | None = None
    on_progress: Callable[[ModelProgress], None] | None = None  # of loads and benchmarks, for whoever watches
    leave_unless_loaded: bool = False  # a worker none of whose models loads at the start has no business in the pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Why a worker ended; ``code`` is the process's exit status."""

    code: int
    reason: str


class Worker:
    """One worker process: an engine, its models, a session to every router replica."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._engine: Engine = setup.make_engine()
        self._profile = setup.profile
        self._incarnation = uuid.uuid4().hex
        self._worker_id = setup.worker_id
        self._shelf = ModelShelf(announce=self._announce, measure=setup.measure)
        self._side_work = SideWork(shelf=self._shelf, load_options=setup.load_options)
        self._dispatcher = Dispatcher(self._engine, why_not_ready=self._shelf.why_not_ready)
        self._hub = self._open_hub(self._engine)
        self._pool = SessionPool(setup.routers, self._open_session)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[Ended] | None = None
        self._stopping = False
        self._asleep = False
        self._drained = False  # by an operator, who alone can take it back
        self._enrolling = False
        self._enrolled_at: float | None = None  # in this process; None: the identity is from an earlier life
        self._drain: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ life

    async def run(self, *, signals: bool = True) -> Ended:
        """Serve until told to stop; afterwards nothing of it is left running."""
        self._ended = asyncio.get_running_loop().create_future()
        if signals:
            self._listen_to_signals()
        log.info("worker.started", node=self._profile.node, engine=self._profile.engine)
        self._hub.start()
        try:
            await self._join()
            self._spawn(self._load_all())
            ended = await self._ended
        finally:
            await self._close()
        log.info("worker.complete", reason=ended.reason)
        return ended

    async def _join(self) -> None:
        if not self._worker_id and self._setup.enrol is not None:
            await self._take_identity(await self._setup.enrol())
        self._pool.dial_seeds()

    async def _take_identity(self, enrolment: Enrolment) -> None:
        self._worker_id = enrolment.worker_id
        self._enrolled_at = time.monotonic()
        self._pool.add_seeds(replica.address for replica in enrolment.replicas)

    async def _load_all(self) -> None:
        loaded = [await self._shelf.load(self._engine, self._hub, spec) for spec in self._setup.models]
        if self._setup.leave_unless_loaded and loaded and not any(loaded):
            why = "; ".join(dict.fromkeys(one.error for one in self._shelf.reports if one.error))
            self._pool.broadcast(Leaving(kind=LeavingKind.BYE, reason=f"nothing could be loaded: {why}"))
            self.end(1, f"nothing could be loaded: {why}")

    async def _close(self) -> None:
        tasks = [task for task in (*self._tasks, self._drain) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close(flush_s=2.0)
        await self._hub.stop()
        await self._engine.close()

    def end(self, code: int, reason: str) -> None:
        """Leave now."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(Ended(code=code, reason=reason))

    def stop(self, reason: str) -> None:
        """Drain, say goodbye, leave. Asked a second time: leave at once."""
        if self._stopping:
            self._pool.broadcast(Leaving(kind=LeavingKind.BYE, reason=reason))
            self.end(0, reason)
            return
        self._stopping = True
        self._close_doors(LeavingKind.DRAINING, reason)
        self._spawn(self._drain_and_leave(reason))

    async def _drain_and_leave(self, reason: str) -> None:
        if not await self._dispatcher.drained(self._setup.drain_s):
            self._dispatcher.return_all(reason)
        self._pool.broadcast(Leaving(kind=LeavingKind.BYE, reason=reason))
        self.end(0, reason)

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, f"the worker was stopped ({number.name})")
        loop.add_signal_handler(signal.SIGUSR1, self.toggle_sleep)
        loop.add_signal_handler(signal.SIGUSR2, self.wake)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("worker.task_failed", error=f"{type(error).__name__}: {error}", exc_info=error)

    # ------------------------------------------------------------ open and closed doors

    def _close_doors(self, kind: LeavingKind, reason: str) -> None:
        self._dispatcher.closed_because = f"the worker is {kind}: {reason}"
        self._pool.broadcast(Leaving(kind=kind, reason=reason))

    def _open_doors(self, reason: str) -> None:
        if self._stopping:
            return
        if self._drain is not None:
            self._drain.cancel()
            self._drain = None
        self._asleep = self._drained = False
        self._dispatcher.closed_because = ""
        self._pool.broadcast(Leaving(kind=LeavingKind.AWAKE, reason=reason))

    def toggle_sleep(self) -> None:
        """SIGUSR1: announce sleep, give back what runs; a second one: awake again."""
        if self._asleep:
            self.wake()
            return
        self._asleep = True
        self._close_doors(LeavingKind.SLEEPING, "the machine goes to sleep")
        self._dispatcher.return_all("the machine goes to sleep")

    def wake(self) -> None:
        """SIGUSR2: take work again, unless an operator had drained it."""
        if not self._asleep:
            return
        if self._drained:
            self._asleep = False
            self._close_doors(LeavingKind.DRAINING, "drained by the operator")
        else:
            self._open_doors("the machine is awake")

    def _start_drain(self, deadline_s: float) -> None:
        self._drained = True
        if self._asleep:
            return  # nothing runs, and nothing new comes before it wakes up
        self._close_doors(LeavingKind.DRAINING, "drained by the operator")
        if self._drain is not None:
            self._drain.cancel()
        self._drain = asyncio.create_task(self._return_after(deadline_s))

    async def _return_after(self, deadline_s: float) -> None:
        if not await self._dispatcher.drained(deadline_s):
            self._dispatcher.return_all(f"not finished {deadline_s:g} s after the drain began")

    # ------------------------------------------------------------ the engine

    def _open_hub(self, engine: Engine) -> StepReader:
        hub = StepReader(engine, self._engine_failed)
        hub.add(self._on_step)
        return hub

    def _on_step(self, result: StepResult) -> None:
        self._dispatcher.deliver(result)
        for change in result.cache:
            self._pool.broadcast(change)
        self._pool.touch()

    def _announce(self, progress: ModelProgress) -> None:
        self._pool.broadcast(progress)
        if self._setup.on_progress is not None:
            self._setup.on_progress(progress)

    def _engine_failed(self, reason: str) -> None:
        log.error("engine.failed", reason=reason)
        self._dispatcher.engine_failed(reason)
        if self._shelf.engine_failed(reason):
            self._spawn(self._restart_engine())
        else:
            self._pool.broadcast(Leaving(kind=LeavingKind.BYE, reason=f"the engine keeps dying: {reason}"))
            self.end(1, f"the engine keeps dying: {reason}")

    async def _restart_engine(self) -> None:
        log.info("engine.restart_started")
        await self._hub.stop()
        with contextlib.suppress(EngineError):
            await self._engine.close()
        self._engine = self._setup.make_engine()
        self._hub = self._open_hub(self._engine)
        self._hub.start()
        self._dispatcher.attach(self._engine)
        await self._shelf.reload(self._engine, self._hub)
        log.info("engine.restart_complete")

    # ------------------------------------------------------------ what sessions ask (SessionOwner)

    def _open_session(self, address: str) -> Session:
        return Session(address, self, security=self._setup.security, limits=self._setup.limits)

    def introduce(self) -> Introduction:
        """Facts for hello."""
        return Introduction(
            worker_id=self._worker_id,
            incarnation=self._incarnation,
            profile=self._profile,
            models=self._shelf.reports,
        )

    def load_figures(self) -> Load:
        """The engine's load now."""
        return self._dispatcher.load_figures()

    def on_welcome(self, session: Session, welcome: Welcome) -> None:
        """A session is open: learn its siblings; say so if no work is taken now."""
        if not self._pool.welcomed(session):
            return
        self._pool.follow(welcome.replicas)
        if self._asleep:
            session.put_event(Leaving(kind=LeavingKind.SLEEPING, reason="the machine sleeps"))
        elif self._dispatcher.closed_because:
            session.put_event(Leaving(kind=LeavingKind.DRAINING, reason=self._dispatcher.closed_because))

    def on_broken(self, session: Session, reason: str) -> None:
        """Abort what came over a session that is gone."""
        log.info("session.lost", router=session.address, reason=reason)
        self._dispatcher.session_broken(session)
        self._pool.broken()

    def on_rejected(self, session: Session, reason: str) -> None:
        """The router does not know this worker: ask to be let in anew; refused again at once, give up."""
        just_now = self._enrolled_at is not None and time.monotonic() - self._enrolled_at < ENROLMENT_HOLDS_S
        self._enrol_or_end(f"the router at {session.address} does not let this worker in: {reason}", final=just_now)

    def _dismissed(self, reason: str) -> None:
        """Dismissed for good. An identity from an earlier life may be one that a new router never knew."""
        line = f"the router dismissed this worker for good: {reason}"
        self._enrol_or_end(line, final=self._enrolled_at is not None)

    def _enrol_or_end(self, reason: str, *, final: bool) -> None:
        if self._enrolling:
            return
        if final or self._setup.enrol is None:
            self.end(1, reason)
            return
        log.info("worker.enrols_again", reason=reason)
        self._enrolling = True
        self._spawn(self._enrol_again())

    async def _enrol_again(self) -> None:
        assert self._setup.enrol is not None
        try:
            await self._take_identity(await self._setup.enrol())
        except Exception as error:  # noqa: BLE001 - whatever refused it, the worker ends with one clear line
            self.end(1, str(error))
        finally:
            self._enrolling = False

    def on_command(self, session: Session, command: RouterCommand) -> None:
        """Act on one command from one router replica."""
        match command:
            case Generate():
                self._dispatcher.generate(
                    session,
                    command.job,
                    most_pending_tokens=command.most_pending_tokens,
                    expected_prefill_tokens=command.expected_prefill_tokens,
                )
            case Abort():
                self._dispatcher.abort(command.request_id, command.attempt)
            case Score() | Embed() | LoadModel() | UnloadModel():
                self._aside(session, command)
            case Drain():
                self._start_drain(command.deadline_s)
            case Undrain():
                self._open_doors("undrained by the operator")
            case ReplicaList():
                self._pool.follow(command.replicas)
            case AssignDraft():
                self._assign_draft(command)
            case Dismiss():
                if command.permanent:
                    self._dismissed(command.reason)
            case _:
                log.debug("command.unknown", router=session.address)

    def _assign_draft(self, command: AssignDraft) -> None:
        if self._setup.on_assign_draft is not None:
            self._setup.on_assign_draft(self._engine, command)

    def _aside(self, session: Session, command: SideCommand) -> None:
        if len(self._tasks) < MAX_SIDE_TASKS:
            self._spawn(self._side_work.do(self._engine, self._hub, session, command))
        elif (answer := turned_away(command)) is not None:
            session.put_event(answer)
