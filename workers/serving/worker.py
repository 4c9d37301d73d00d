"""A worker at run time: it enrols, opens sessions, loads its models, serves, leaves. ``workers.server`` builds it."""

import asyncio
import uuid
from dataclasses import dataclass, replace

import structlog

from protos.contract.commands import (
    Abort,
    AssignDraft,
    Dismiss,
    DraftTargets,
    Drain,
    FetchModel,
    Generate,
    LoadModel,
    RemoveModel,
    ReplicaList,
    RouterCommand,
    Score,
    SendFile,
    Undrain,
    UnloadModel,
    Welcome,
)
from protos.contract.joining.enrolment import EnrolReply
from protos.contract.worker import Load, Profile
from workers.engines.base import EngineError, ModelSpec, StepResult
from workers.files.model_files import ModelFiles
from workers.serving.availability import Availability
from workers.serving.control_commands import ControlCommands
from workers.serving.drafting.door import DraftDoor
from workers.serving.drafting.links import DraftLinks
from workers.serving.engine_host import EngineHost
from workers.serving.fleet_identity import FleetIdentity
from workers.serving.job_table import JobTable
from workers.serving.local_files import LocalFiles
from workers.serving.model_manager import ModelManager
from workers.serving.owner_pause import OwnerWatch
from workers.serving.sleep_watch import SleepWatch
from workers.serving.tasks import TaskSet
from workers.session.session import Introduction, Session
from workers.session.session_pool import SessionPool

log = structlog.get_logger(__name__)

FLUSH_S = 2.0
"""How long the end of a worker waits for its last messages to be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """What a worker is to do."""

    profile: Profile
    models: tuple[ModelSpec, ...]
    drain_s: float = 20.0  # how long a stop lets running requests finish
    files: LocalFiles | None = None  # that a router may have loaded
    leave_unless_loaded: bool = False  # a worker none of whose models loads at the start has no business in the fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Why a worker ended; ``code`` is the process's exit status."""

    code: int
    reason: str


class Worker:
    """One worker process: an engine, its models, a session to every router replica, whose owner it is."""

    def __init__(
        self,
        plan: WorkerPlan,
        *,
        identity: FleetIdentity,
        sessions: SessionPool,
        engine: EngineHost,
        models: ModelManager,
        jobs: JobTable,
        control: ControlCommands,
        availability: Availability,
        owner: OwnerWatch | None,
        sleep: SleepWatch | None,
        tasks: TaskSet,
        drafts: DraftLinks,
        door: DraftDoor | None = None,
        travelling: ModelFiles | None = None,
    ) -> None:
        self._plan = plan
        self._identity = identity
        self._sessions = sessions
        self._engine = engine
        self._models = models
        self._jobs = jobs
        self._control = control
        self.availability = availability
        self._owner = owner
        self._sleep = sleep
        self._tasks = tasks
        self._drafts = drafts
        self._door = door
        self._travelling = travelling
        self._incarnation = uuid.uuid4().hex
        self._ended: asyncio.Future[Ended] | None = None
        self._enrolment: asyncio.Task[None] | None = None  # the last one asked for

    def __repr__(self) -> str:
        return (
            f"<Worker: {len(self._jobs)} jobs, {len(self._models.reports)} models, {self._sessions.open_count} of "
            f"{len(self._sessions)} sessions open>"
        )

    # ------------------------------------------------------------ life

    async def run(self) -> Ended:
        """Serve until told to stop; afterwards nothing of it is left running."""
        self._ended = asyncio.get_running_loop().create_future()
        log.info("worker.started", node=self._plan.profile.node, engine=self._plan.profile.engine)
        self._engine.start(on_step=self._on_step, on_failed=self._on_engine_failed)
        self._jobs.attach(self._engine.engine)
        try:
            if self._identity.missing:
                self._follow(await self._identity.ask())
            if self._owner is not None:
                await self._owner.begin()
                self._tasks.spawn(self._owner.follow(), "owner watch")
            if self._sleep is not None:
                self._tasks.spawn(self._sleep.follow(), "sleep watch")
            self._sessions.open_all(self)
            self._tasks.spawn(self._sessions.watch(), "session watch")
            self._tasks.spawn(self._drafts.follow(), "draft reports")
            self._tasks.spawn(self._load_all(), "loads")
            ended = await self._ended
        finally:
            await self._close()
        log.info("worker.complete", reason=ended.reason)
        return ended

    def end(self, code: int, reason: str) -> None:
        """Leave now."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(Ended(code=code, reason=reason))

    def stop(self, reason: str) -> None:
        """Drain, say goodbye, leave. Asked a second time: leave at once."""
        if self.availability.stopping:
            self._leave(0, reason)
            return
        self.availability.stop(reason)
        self._tasks.spawn(self._drain_and_leave(reason), "last drain")

    async def _drain_and_leave(self, reason: str) -> None:
        if not await self._jobs.drained(self._plan.drain_s):
            self._jobs.return_all(reason)
        self._leave(0, reason)

    def _leave(self, code: int, reason: str) -> None:
        self.availability.leave(reason)
        self.end(code, reason)

    async def _load_all(self) -> None:
        loaded = [await self._models.load(spec) for spec in self._plan.models]
        if self._plan.leave_unless_loaded and loaded and not any(loaded):
            why = "; ".join(dict.fromkeys(one.error for one in self._models.reports if one.error))
            self._leave(1, f"nothing could be loaded: {why}")
        if self._travelling is not None:
            # Not before: to hash files takes a processor from what is being measured.
            self._tasks.spawn(self._travelling.watch(), "model files")

    async def _close(self) -> None:
        await self._tasks.close()
        await self._control.close()
        if self._door is not None:
            await self._door.close()
        await self._sessions.close(flush_s=FLUSH_S)
        await self._jobs.close()
        await self._engine.close()

    # ------------------------------------------------------------ the engine

    def _on_step(self, result: StepResult) -> None:
        self._jobs.deliver(result)
        for change in result.cache:
            self._sessions.broadcast(change)
        self._sessions.touch()

    def _on_engine_failed(self, reason: str) -> None:
        log.error("engine.failed", reason=reason)
        self._jobs.engine_failed(reason)
        if self._models.engine_failed(reason):
            self._tasks.spawn(self._restart_engine(), "engine restart")
        else:
            self._leave(1, f"the engine keeps dying: {reason}")

    async def _restart_engine(self) -> None:
        try:
            await self._engine.restart()
        except EngineError as error:
            log.error("engine.restart_failed", reason=str(error))
            self._leave(1, f"the engine cannot be started again: {error}")
            return
        self._jobs.attach(self._engine.engine)
        await self._models.reload()
        log.info("engine.restart_complete")

    # ------------------------------------------------------------ what sessions ask (SessionOwner)

    def introduce(self) -> Introduction:
        """Facts for hello."""
        return Introduction(
            worker_id=self._identity.worker_id,
            incarnation=self._incarnation,
            profile=self._plan.profile,
            models=self._models.reports,
            files=self._plan.files.reports if self._plan.files is not None else (),
        )

    def load_figures(self) -> Load:
        """The engine's load now, its last step by the clock, and what its owner asks."""
        load = self._engine.reader.timed(self._jobs.load_figures())
        price_s = self._owner.price_s if self._owner is not None else 0.0
        return replace(load, price_s=price_s) if price_s else load

    def on_welcome(self, session: Session, welcome: Welcome) -> None:
        """A session is open: learn its siblings; say so if no work is taken now."""
        if not self._sessions.welcomed(session):
            return
        here = self._plan.profile.version
        if welcome.version and here and welcome.version != here:
            log.warning("versions.differ", head=welcome.version, here=here, level_with="allsorts upgrade")
        self._sessions.follow(welcome.replicas)
        self.availability.tell(session)
        if self._travelling is not None:
            self._travelling.tell(session)

    def on_broken(self, session: Session, reason: str) -> None:
        """Abort what came over a session that is gone."""
        log.info("session.lost", router=session.address, reason=reason)
        self._jobs.session_broken(session)
        self._sessions.broken()

    def on_rejected(self, session: Session, reason: str) -> None:
        """The router does not know this worker: ask to be let in anew; refused again at once, give up."""
        line = f"the router at {session.address} does not let this worker in: {reason}"
        self._enrol_or_end(line, final=self._identity.just_given)

    def on_command(self, session: Session, command: RouterCommand) -> None:
        """Act on one command from one router replica."""
        match command:
            case Generate():
                self._jobs.generate(
                    session,
                    command.job,
                    max_queued_prefill_tokens=command.max_queued_prefill_tokens,
                    expected_prefill_tokens=command.expected_prefill_tokens,
                )
            case Abort():
                self._jobs.abort(command.request_id, command.attempt)
            case Score() | LoadModel() | UnloadModel() | FetchModel() | RemoveModel() | SendFile():
                self._control.start(session, command)
            case Drain():
                self.availability.drain(command.deadline_s)
            case Undrain():
                self.availability.undrain()
            case AssignDraft():
                self._drafts.assign(self._identity.worker_id, command)
            case DraftTargets() if self._door is not None:
                self._door.tell(session.replica_id, command)
            case ReplicaList():
                self._sessions.follow(command.replicas)
            case Dismiss():
                if command.permanent:
                    self._on_dismissed(command.reason)
            case _:
                log.debug("command.unknown", router=session.address)

    # ------------------------------------------------------------ being let in

    def _follow(self, enrolment: EnrolReply) -> None:
        self._sessions.add_seeds(replica.address for replica in enrolment.replicas)

    def _on_dismissed(self, reason: str) -> None:
        """Dismissed for good. An identity from an earlier life may be one that a new router never knew."""
        line = f"the router dismissed this worker for good: {reason}"
        self._enrol_or_end(line, final=self._identity.fresh)

    def _enrol_or_end(self, reason: str, *, final: bool) -> None:
        if self._enrolment is not None and not self._enrolment.done():
            return
        if final or not self._identity.can_ask:
            self.end(1, reason)
            return
        log.info("worker.enrols_again", reason=reason)
        self._enrolment = self._tasks.spawn(self._enrol_again(), "enrolment")

    async def _enrol_again(self) -> None:
        try:
            self._follow(await self._identity.ask())
        except Exception as error:  # noqa: BLE001 - whatever refused it, the worker ends with one clear line
            self.end(1, str(error))
