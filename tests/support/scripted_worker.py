"""The pipeline without sockets: the real scheduler, fleet and sessions, and workers that say what a test tells them.

Time is by hand, except for the deadline of acceptance, which is the event loop's.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from protos.contract.commands import Abort, Generate, RouterCommand
from protos.contract.ids import AttemptKey
from protos.contract.request import Job
from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Usage
from protos.contract.worker import Load, ModelInstance
from router.config import DispatchConfig, FleetConfig
from router.dispatch.admission_queue import AdmissionQueue
from router.dispatch.sender import Sender
from router.domain.answer import Chunk
from router.domain.clock import Clock, ManualClock
from router.domain.request import InferenceRequest
from router.domain.snapshot import WorkerView
from router.domain.stream import AttemptEvent
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.pipeline import LiveAnswer, Pipeline
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.claims import Claims
from router.scheduling.events import WorkerGone
from router.scheduling.placement.factory import build_placer
from router.scheduling.scheduler import RetryLimits, Scheduler
from router.sessions.session import WorkerSession
from router.telemetry.metrics import Metrics
from tests.support.fleets import instance, worker
from tests.support.until import until_changed


class ScriptedWorker(WorkerSession):
    """One worker as its session shows it: what it was told, and what it answers. It says nothing by itself."""

    def __init__(self, view: WorkerView, *, session_id: int, membership: Membership, clock: Clock) -> None:
        super().__init__(session_id=session_id, worker_id=view.worker_id, clock=clock)
        self.name = view.profile.node
        self.aborted: list[AttemptKey] = []
        self._membership = membership
        self._jobs: deque[Job] = deque()
        self._another = asyncio.Event()
        self._said: dict[AttemptKey, int] = {}

    def send(self, command: RouterCommand) -> int:
        """As a session does, to a worker that reads at once; what matters here is kept for the test."""
        if not self.ended.done():
            if isinstance(command, Generate):
                self._jobs.append(command.job)
                self._another.set()
            elif isinstance(command, Abort):
                self.aborted.append((command.request_id, command.attempt))
        sequence = super().send(command)
        self._outbox.clear()
        return sequence

    async def job(self) -> Job:
        """The next request that is sent here."""
        await until_changed(self._another, lambda: self._jobs)
        return self._jobs.popleft()

    def accept(self, job: Job, *, prompt_tokens: int = 1000) -> None:
        self._say(job, Accepted(**_key(job), prompt_tokens=prompt_tokens))

    def refuse(self, job: Job, code: RefusalCode, message: str = "no") -> None:
        self._say(job, Refusal(**_key(job), code=code, message=message))

    def write(self, job: Job, *words: str, end: FinishReason | None = None, **more: Any) -> None:
        """One token for each word, in one delta."""
        key = (job.request_id, job.attempt)
        said = self._said.get(key, 0)
        self._said[key] = told = said + len(words)
        usage = Usage(prompt_tokens=1000, completion_tokens=told) if end else None
        delta = Delta(
            **_key(job),
            position=said,
            text="".join(words),
            token_count=len(words),
            text_tokens=told,
            finish_reason=end,
            usage=usage,
            **more,
        )
        self._say(job, delta)

    def skip(self, job: Job, tokens: int = 1) -> None:
        """Tokens get lost on the way: what it writes next does not follow on."""
        self._said[job.request_id, job.attempt] += tokens

    def drains(self) -> None:
        """Everything that runs here is given back."""
        self.give_back("it drains")

    def breaks_off(self, reason: str = "the connection broke") -> None:
        """Its session ends, without a goodbye."""
        self.end(reason)
        self._membership.leave(self, reason)

    def is_full(self, full: bool = True) -> None:
        """Its load, with every command seen: no room, or nothing to do."""
        figures = {"running": 8, "waiting": 4} if full else {}
        self._membership.set_load(self.member, Load(observed_at=1.0, last_command=1 << 40, **figures))

    def is_cordoned(self) -> None:
        """Nothing more is placed here, not even what goes on."""
        self._membership.set_cordoned(self.member, True)

    @property
    def member(self) -> Member:
        """As the fleet has it."""
        found = self._membership.member(self.worker_id)
        assert found is not None
        return found

    def _say(self, job: Job, event: AttemptEvent) -> None:
        self.heard()
        self.deliver((job.request_id, job.attempt), event)


class PipelineRig:
    """One router replica's pipeline. To be built on a running event loop."""

    def __init__(
        self, *names: str, dispatch: DispatchConfig | None = None, limits: AdmissionLimits | None = None
    ) -> None:
        dispatch = dispatch or DispatchConfig()
        self.clock = ManualClock(now=1.0)
        self.claims = Claims()
        self.membership = Membership(FleetConfig(), self.clock, self.claims)
        self.placer = build_placer("cost", rng=random.Random(0))
        self.scheduler = Scheduler(
            placer=self.placer,
            claims=self.claims,
            fleet=self.membership,
            limits=limits,
            retries=RetryLimits(max_attempts=dispatch.max_attempts, max_moves=dispatch.max_moves),
        )
        self.queue = AdmissionQueue(scheduler=self.scheduler, clock=self.clock)
        self.membership.on_change(self.queue.fleet_changed)
        self.membership.on_gone(lambda worker_id: self.queue.tell(WorkerGone(worker_id)))
        self.metrics = Metrics()
        self.sender = Sender(membership=self.membership, config=dispatch, clock=self.clock)
        self.pipeline = Pipeline(
            queue=self.queue, sender=self.sender, config=dispatch, metrics=self.metrics, clock=self.clock
        )
        self.workers: dict[str, ScriptedWorker] = {}
        for name in names:
            self.join(name)

    def join(self, name: str, model: ModelInstance | None = None) -> ScriptedWorker:
        """A worker dials in, ready."""
        view = worker(name, model or instance())
        made = ScriptedWorker(view, session_id=len(self.workers) + 1, membership=self.membership, clock=self.clock)
        self.membership.join(made, view.profile, view.models, cordoned=False)
        self.workers[name] = made
        return made

    def ask(self, request: InferenceRequest) -> "asyncio.Task[LiveAnswer]":
        """A client's request, on its way."""
        return asyncio.create_task(self.pipeline.answer(replace(request, arrived_at=self.clock.now())))

    async def job(self) -> tuple[ScriptedWorker, Job]:
        """The next request that reaches any worker, and which."""
        waiting = {asyncio.create_task(one.job()): one for one in self.workers.values()}
        done, late = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        (first,) = done
        return waiting[first], first.result()

    def assert_nothing_is_held(self) -> None:
        """No request waits, no capacity is claimed, no worker is listened to, and all books agree."""
        self.scheduler.validate()
        assert (len(self.scheduler), len(self.claims), len(self.queue)) == (0, 0, 0)
        assert dict(self.placer.outstanding()) == {}
        assert [one.open_attempts for one in self.workers.values()] == [0] * len(self.workers)


async def text_of(answer: LiveAnswer, heard: Callable[[Chunk], Any] = lambda _: None) -> str:
    """The rest of an answer, read to its end."""
    words = []
    async for chunk in answer:
        heard(chunk)
        words.append(chunk.text)
    return "".join(words)


def _key(job: Job) -> dict[str, Any]:
    return {"request_id": job.request_id, "attempt": job.attempt}
