"""Composition root of one router replica: an ASGI object whose lifespan opens and closes the gRPC listeners.

Ray Serve runs it inside the ingress replica (``router.ray.app``), uvicorn runs the very same object
(``allsorts serve --without-ray``), and tests call it in process.
"""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from protos.contract.worker import InstanceState
from router.config import RouterConfig
from router.configured import admission_limits, configured_placer, kept_records
from router.dispatch.admission_queue import AdmissionQueue
from router.dispatch.sender import Sender
from router.dist.model_shelf import model_shelf, watch
from router.domain.clock import Clock, SystemClock
from router.domain.ids import ReplicaId
from router.domain.worker import WorkerState
from router.fleet.control import Control
from router.fleet.membership import Membership
from router.fleet.model_control import ModelControl
from router.fleet.node_runner import WORKER_LABEL, RayNode, RunningWorker, WayIn, WorkerSpec
from router.fleet.planning.steps import Plan
from router.fleet.reconciling.desk import FleetDesk
from router.fleet.reconciling.reconciler import EnsureController, Reconciler
from router.http.admin.desired import DesiredAdmin
from router.http.admin.models import ModelsAdmin
from router.http.admin.operations import Admin
from router.http.admin.rejection_log import RejectionLog
from router.http.auth.authenticator import StoredAuthenticator, refuse_exposed_without_keys
from router.http.dialects.inference import Inference
from router.http.dialects.responses.kept import KeptResponses
from router.http.dialects.shared.model_name import default_floors
from router.http.fetching.fetcher import ImageFetcher
from router.http.fetching.rules import ImageHosts
from router.http.lifespan import Message, Receive, Send, lifespan
from router.http.public.health_door import HealthDoor
from router.http.server.asgi import HttpApp
from router.http.server.body_budget import BodyBudget
from router.limits import heap_is_settled
from router.pipeline import Pipeline
from router.scheduling.claims import Claims
from router.scheduling.events import WorkerGone
from router.scheduling.explain.decision_files import RecordFiles
from router.scheduling.explain.decision_log import RecordLog
from router.scheduling.placement.quality import TabulatedQuality
from router.scheduling.scheduler import RetryLimits, Scheduler
from router.sessions.files import FilesService
from router.sessions.listeners import Listening, listen
from router.sessions.replica_list import ReplicaList
from router.sessions.service import FleetService
from router.speculation.desk import DraftDesk
from router.telemetry.full_collections import FullCollections
from router.telemetry.loop_watch import LoopWatch
from router.telemetry.metrics import Metrics
from router.trust.enrolment_offers import PoolOffers
from router.trust.security import Security, build_security

if TYPE_CHECKING:
    from router.dist.door import Door

log = structlog.get_logger()

WARM_UP_S = 10.0
"""A replica that starts counts as ready once a worker is, or after this time: its workers may be away for longer."""


LOOK_EVERY_S = 0.05

STARTS_WITHIN_S = 900.0
"""How long a token lives that lets a started worker in: Ray may have to bring its environment up first."""

MORE_PORTS = 32
"""Tried behind a session port that another replica still has: one that is about to stop, or had this rank before."""


class RouterNode:
    """One router replica. ``rank`` tells replicas of one application apart and decides the session port;
    ``first_here``: machines join where this one listens, as at one replica of every machine; ``siblings``: whether
    others may come and go beside it, which it then follows.

    ``controller``: see ``Reconciler``; None: this one brings the fleet to what is wanted by itself.
    """

    def __init__(
        self,
        config: RouterConfig,
        *,
        rank: int = 0,
        first_here: bool | None = None,
        siblings: bool | None = None,
        clock: Clock | None = None,
        controller: EnsureController | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.claims = Claims()
        self.membership = Membership(config.fleet, self.clock, self.claims)
        self.placer = configured_placer(config)
        self.scheduler = Scheduler(
            placer=self.placer,
            claims=self.claims,
            fleet=self.membership,
            limits=admission_limits(config.admission),
            retries=RetryLimits(max_attempts=config.dispatch.max_attempts, max_moves=config.dispatch.max_moves),
        )
        self.metrics.watch_process(requests=lambda: len(self.scheduler), claims=lambda: len(self.claims))
        self.shelf = model_shelf(config.files.models_dir, config.state_dir)
        self.health = HealthDoor(self.ready)
        self._watch = LoopWatch()
        self._collections = FullCollections(settled=heap_is_settled)
        self._rank = rank
        self._first_here = rank == 0 if first_here is None else first_here
        self._siblings = config.replicas > 1 if siblings is None else siblings
        # A replica that takes another's place is another one: workers must not take its address for the old one's.
        self._replica_id = ReplicaId(f"router-{rank}-{secrets.token_hex(3)}" if self._siblings else f"router-{rank}")
        self._running: _Running | None = None
        self._wishes: Reconciler | None = None
        self._controller = controller
        self._started_at = 0.0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send, start=self._start_ready, stop=self.stop)
        elif scope["type"] == "http" and self._running is not None:
            await self._running.http(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003, "reason": "only HTTP is spoken here"})
        else:
            raise ValueError(f"a router serves HTTP once it has started, not '{scope['type']}'")

    async def start(self) -> None:
        """Open the store and the listeners. Raises AllsortsError."""
        self._running = await self._build()
        wanted = self.config.http.health_port
        if wanted is not None:
            await self.health.listen(self.config.http.host, wanted + self._rank if wanted else 0)
        self._started_at = self.clock.now()
        self._watch = LoopWatch(self.metrics.loop_stalled)
        self._watch.start()
        self._collections.start()
        log.info("router.started", rank=self._rank, sessions=self._running.listening.replica.address)

    async def stop(self) -> None:
        """End sessions and listeners, close the store. Idempotent."""
        running, self._running = self._running, None
        self._watch.stop()
        self._collections.stop()
        await self.health.stop()
        if running is None:
            return
        if running.listed is not None:
            await running.listed.leave()
        await running.service.end_all("the router stops")
        if running.door is not None:
            await running.door.close()
        await running.listening.stop()
        await running.control.close()
        await running.security.close()
        if running.records is not None:
            await asyncio.to_thread(running.records.close)
        log.info("router.stopped", rank=self._rank)

    async def next_steps(self, nodes: tuple[RayNode, ...], workers: tuple[RunningWorker, ...]) -> Plan:
        """What a fleet controller asks for, again and again; see ``Reconciler.driven``. Nothing, while starting."""
        return Plan() if self._running is None or self._wishes is None else await self._wishes.driven(nodes, workers)

    async def way_in(self, spec: WorkerSpec) -> WayIn:
        """For a worker that is started on one of the cluster's nodes. Its labels are what the token says, since it is
        let in as every machine is. Raises StoreFailed.
        """
        running = self._running
        if running is None:
            return WayIn()
        if running.security.authority is None:
            return WayIn(routers=tuple(one.address for one in running.service.replicas))
        made = await running.security.credentials.create_token(
            ttl_s=STARTS_WITHIN_S, uses=1, labels={**spec.labels, WORKER_LABEL: spec.name}
        )
        return WayIn(enrol=running.security.enrol_address, token=str(made["token"]))

    def ready(self) -> tuple[bool, str]:
        """Whether requests are worth sending here, and why not."""
        if self._running is None:
            return False, "the router has not started"
        if self.clock.now() - self._started_at >= WARM_UP_S:
            return True, ""
        if any(view.state is WorkerState.READY for view in self.membership.snapshot().workers):
            return True, ""
        return False, "no worker is ready yet"

    # -- putting it together -----------------------------------------------------------------------------------

    async def _build(self) -> "_Running":
        config, clock, membership = self.config, self.clock, self.membership
        queue = AdmissionQueue(scheduler=self.scheduler, clock=clock, decided=self.metrics.placement_decided)
        security = await build_security(
            config,
            replicas=lambda: service.replicas,
            is_live=lambda worker_id: membership.session_of(worker_id) is not None,
            offers=PoolOffers(membership.snapshot, default_floors(config.http.quality_floors)),
            clock=clock,
        )
        service = FleetService(
            replica_id=self._replica_id,
            membership=membership,
            tell=queue.tell,
            authorizer=security.authorizer,
            enroller=security.enroller,
            config=config.fleet,
            clock=clock,
        )
        try:
            await refuse_exposed_without_keys(security.store, config.http.host)
            listening = await self._listen(security, service)
            security.until_closed(watch(self.shelf))
            door = await self._open_door(security, listening)
        except BaseException:
            await security.close()
            raise
        service.replicas = (listening.replica,)
        listed = await self._follow_siblings(security, service, listening) if self._siblings else None
        records = kept_records(config, self.placer, rank=self._rank, lost=self.metrics.record_lost)
        membership.on_change(queue.fleet_changed)
        membership.on_gone(lambda worker_id: queue.tell(WorkerGone(worker_id)))
        control = Control(membership=membership, service=service, intent=security.intent)
        desk = DraftDesk(membership.snapshot, membership.session_of, clock)
        if self._rank == 0:  # one replica pairs, as one enrols
            membership.on_change(desk.look)
        reconciler = self._reconciler(security, queue)
        http = self._http(security, control, queue, desk, reconciler)
        return _Running(
            security=security,
            service=service,
            listening=listening,
            control=control,
            http=http,
            records=records,
            door=door,
            listed=listed,
        )

    async def _listen(self, security: Security, service: FleetService) -> Listening:
        files = FilesService(
            membership=self.membership,
            authorizer=security.authorizer,
            clock=self.clock,
            own=self.shelf,
            bytes_per_s=self.config.files.relay_bytes_per_s,
        )
        return await listen(
            security,
            service,
            replica_id=self._replica_id,
            rank=self._rank,
            door=self._first_here,
            more_ports=MORE_PORTS if self._siblings else 0,
            membership=self.membership,
            files=files,
        )

    async def _follow_siblings(self, security: Security, service: FleetService, listening: Listening) -> ReplicaList:
        listed = ReplicaList(store=security.store, own=listening.replica, clock=self.clock, tell=service.tell_replicas)
        await listed.look()
        security.until_closed(listed.follow())
        return listed

    async def _start_ready(self) -> None:
        """A replica that comes to others takes requests once their workers have found it."""
        await self.start()
        running = self._running
        beside_others = running is not None and len(running.service.replicas) > 1
        while beside_others and not self.ready()[0]:  # noqa: ASYNC110 - it is ready after a time, too
            await asyncio.sleep(LOOK_EVERY_S)

    async def _open_door(self, security: Security, listening: Listening) -> "Door | None":
        """One replica hands the head's version out, as one enrols; nobody joins a plain pool from elsewhere."""
        if not self._first_here or security.authority is None:
            return None
        from router.dist.door import open_door  # late: its HTTP server, and a plain pool starts without it

        try:
            door = await open_door(security, self.config, self.clock)
        except BaseException:
            await listening.stop()
            raise
        if door is not None and listening.identity is not None:
            listening.identity.tell_install_port(door.port)
        return door

    def _reconciler(self, security: Security, queue: AdmissionQueue) -> Reconciler:
        """It does nothing until somebody wants something of the fleet."""
        desk = FleetDesk(membership=self.membership, claims=self.claims, clock=self.clock, demand=queue.demand)
        reconciler = self._wishes = Reconciler(
            store=security.store,
            desk=desk,
            clock=self.clock,
            controller=self._controller,
            leads_alone=self._rank == 0,
        )
        queue.on_held(reconciler.wake)
        security.until_closed(reconciler.run())
        return reconciler

    def _room(self) -> tuple[int, int]:
        """Requests that ready workers and the queue take at once, and how many there are."""
        ready = (one for one in self.membership.snapshot().workers if one.state is WorkerState.READY)
        slots = sum(model.slots for one in ready for model in one.models if model.state is InstanceState.READY)
        return slots + self.config.admission.queue_limit, len(self.scheduler)

    def _pipeline(self, queue: AdmissionQueue) -> Pipeline:
        return Pipeline(
            queue=queue,
            sender=Sender(membership=self.membership, config=self.config.dispatch, clock=self.clock),
            config=self.config.dispatch,
            metrics=self.metrics,
            clock=self.clock,
        )

    def _http(
        self,
        security: Security,
        control: Control,
        queue: AdmissionQueue,
        desk: DraftDesk,
        reconciler: Reconciler,
    ) -> HttpApp:
        config, clock, membership, placer = self.config, self.clock, self.membership, self.placer
        authenticator = StoredAuthenticator(
            store=security.store, clock=clock, host=config.http.host, room=self._room, shared=self._siblings
        )
        rejections = RejectionLog()
        inference = Inference(
            pipeline=self._pipeline(queue),
            fleet=membership,
            authenticator=authenticator,
            metrics=self.metrics,
            config=config.http,
            clock=clock,
            quality=TabulatedQuality(),
            expect_output=placer.expected_output,
            model_floors=default_floors(config.http.quality_floors),
            rejections=rejections,
            bodies=BodyBudget(config.http.bodies_limit_bytes),
            waits=reconciler,
            images=ImageFetcher(hosts=ImageHosts(config.http.image_hosts), deadline_s=config.http.image_fetch_s),
            kept=KeptResponses(store=security.store, clock=clock, config=config.http),
        )
        files = ModelControl(membership=membership, head=lambda: self.shelf.held)
        admin = Admin(
            fleet=membership,
            control=control,
            credentials=security.credentials,
            explainer=placer,
            config=config.http,
            drain_deadline_s=config.fleet.drain_deadline_s,
            replica=f"router-{self._rank}",
            replicas=config.replicas,
            archive=RecordFiles(Path(kept)).of_request if (kept := config.placement.record_file) else None,
            rejections=rejections,
            drafts=lambda: desk.notes,
            fetches=files.fetches,
        )
        return HttpApp(
            inference=inference,
            admin=admin,
            desired=DesiredAdmin(wishes=reconciler, config=config.http),
            models=ModelsAdmin(files=files, config=config.http),
            rejections=rejections,
            fleet=membership,
            authenticator=authenticator,
            metrics=self.metrics,
            config=config.http,
            clock=clock,
            ready=self.ready,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """What exists between start and stop."""

    security: Security
    service: FleetService
    listening: Listening
    control: Control
    http: HttpApp
    records: RecordLog | None
    door: "Door | None"
    listed: ReplicaList | None
