"""The composition root of a worker: from a configuration to a worker that serves until it is stopped."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from protos.contract.events import ModelProgress
from protos.contract.files.hashing import HashCache
from protos.contract.files.library import ModelLibrary
from protos.contract.joining.enrolment import EnrolReply
from protos.contract.models.quantization import canonical
from protos.contract.worker import DRAFT_ROLE, Hardware, InstanceState, Profile
from workers.benchmark.join_benchmark import JoinBenchmark
from workers.benchmark.plan import Effort
from workers.benchmark.store import BenchmarkStore
from workers.config import ModelConfig, Option, WorkerConfig, public_name
from workers.drafting.link import DraftTls
from workers.engines.base import Engine, ModelSpec
from workers.engines.spec import EngineSpec
from workers.engines.table import engine_spec
from workers.files.model_files import ModelFiles
from workers.joining.home import Home
from workers.joining.neighbourhood import Neighbourhood, asked_threads
from workers.joining.profile import profile_of
from workers.models.disk import ModelDisk
from workers.neighbours.place import meeting_place
from workers.neighbours.shares import living
from workers.neighbours.turns import MachineTurns
from workers.owner.conditions import When
from workers.owner.looking import Looking
from workers.owner.sleep import announcer
from workers.serving.availability import Availability
from workers.serving.control_commands import ControlCommands
from workers.serving.drafting.door import DraftDoor
from workers.serving.drafting.links import DraftLinks
from workers.serving.engine_host import EngineHost
from workers.serving.fleet_identity import FleetIdentity
from workers.serving.job_table import JobTable
from workers.serving.local_files import LocalFiles
from workers.serving.model_manager import Measure, ModelManager
from workers.serving.model_room import ModelRoom
from workers.serving.owner_pause import CONDITIONS_EVERY_S, POWER_EVERY_S, ConditionWatch, OwnerWatch, PauseFile
from workers.serving.sleep_watch import SleepWatch
from workers.serving.tasks import TaskSet
from workers.serving.worker import Ended, Worker, WorkerPlan
from workers.session.channel import ChannelSecurity, Dial, grpc_dial
from workers.session.enrolment import enrol_anywhere
from workers.session.identity_file import IdentityFile
from workers.session.session import Session, SessionLimits
from workers.session.session_pool import SessionPool

log = structlog.get_logger(__name__)


async def serve(
    config: WorkerConfig,
    *,
    worker_id: str = "",
    security: ChannelSecurity | None = None,
    profile: Profile | None = None,
    signals: bool = True,
    on_progress: Callable[[ModelProgress], None] | None = None,
    leave_unless_loaded: bool = False,
) -> Ended:
    """Run a worker until it ends. With ``worker_id`` and ``security`` (from a join) it does not enrol by itself;
    with ``profile`` it does not look around again.
    ``leave_unless_loaded``: it leaves the fleet when none of its models can be loaded at the start.

    Raises LoadError (no such engine, package missing), EnrolFailed, ConfigError: one clear line each.
    """
    engine = engine_spec(config.engine)
    models = await _models(config, engine)
    if profile is None:
        profile = await profile_of(
            engine,
            node=config.node,
            threads=asked_threads(config),
            labels=config.labels,
            model=next(iter(models), None),
        )
    with closing(Neighbourhood(config, engine, profile.hardware)) as near:
        config, known = await asyncio.to_thread(near.agreed, profile)
        known = replace(known, takes_models=config.wait_for_models, memory_limit_bytes=config.max_memory_bytes)
        specs = tuple(_spec(config, engine, one) for one in models)
        tls = _draft_tls(security)
        door, known = await _draft_door(config, engine, tls, known)
        identity = IdentityFile(Path(config.state_dir), config.node, config.engine, tuple(one.path for one in specs))
        files = await _files(config, engine)
        with closing(identity):
            plan = WorkerPlan(
                profile=known,
                models=specs,
                drain_s=config.drain_s,
                files=files,
                leave_unless_loaded=leave_unless_loaded,
            )
            worker = build_worker(
                plan,
                make_engine=engine.make if door is None else door.make_engine,
                routers=config.routers,
                worker_id=worker_id or identity.read(),
                enrol=None if worker_id else partial(_enrol, config, known, identity, security),
                dial=grpc_dial(security),
                measure=_benchmark(config, known.hardware, near.turns) if door is None else None,
                turns=near.turns,
                room=ModelRoom(near.shares, near.needs) if near.shares is not None else None,
                load_options=_options(config, engine),
                on_progress=on_progress,
                pause=PauseFile(Path(config.state_dir)),
                conditions=_conditions(config, engine),
                sleep_program=announcer(),
                tls=tls,
                door=door,
                model_files=partial(_model_files, config, security) if engine.model_files and door is None else None,
            )
            if signals:
                _listen_to_signals(worker)
            return await worker.run()


def _draft_tls(security: ChannelSecurity | None) -> DraftTls | None:
    if security is None:
        return None
    return DraftTls(authority=security.authority, certificate=security.certificate, key=security.key)


async def _draft_door(
    config: WorkerConfig, engine: EngineSpec, tls: DraftTls | None, known: Profile
) -> tuple[DraftDoor | None, Profile]:
    """Open, of a worker that drafts for others, and its profile with the door's address."""
    if config.role != DRAFT_ROLE:
        return None, known
    door = DraftDoor(engine.make_drafting, tls)
    address = await door.open(config.listen, seen_from=config.routers[0])
    return door, replace(known, role=DRAFT_ROLE, draft_address=address)


def build_worker(
    plan: WorkerPlan,
    *,
    make_engine: Callable[[], Engine],
    routers: Sequence[str],
    worker_id: str = "",
    enrol: Callable[[], Coroutine[Any, Any, EnrolReply]] | None = None,
    dial: Dial,
    limits: SessionLimits | None = None,
    measure: Measure | None = None,
    turns: MachineTurns | None = None,
    room: ModelRoom | None = None,
    load_options: Mapping[str, Option] | None = None,
    on_progress: Callable[[ModelProgress], None] | None = None,
    pause: PauseFile | None = None,
    conditions: ConditionWatch | None = None,
    sleep_program: tuple[str, ...] | None = None,
    tls: DraftTls | None = None,
    door: DraftDoor | None = None,
    model_files: Callable[[SessionPool, ModelManager], ModelFiles] | None = None,
) -> Worker:
    """A worker and all that it is made of. ``routers``: addresses to dial first; ``turns``: of this machine, where the
    engine computes on it; ``room``: what its models take of it; ``load_options``: of models that a router loads;
    ``on_progress``: hears of loads and benchmarks, for whoever watches; ``pause``: where this machine's owner says that
    no work is to be taken, ``conditions``: when it may be; ``sleep_program``: says when this machine is about to sleep
    (empty: only waking is noticed, None: neither); ``tls``: what it shows to draft workers; ``door``: open, of a worker
    that drafts itself; ``model_files``: makes what fetches and shares models' files, None: they stay where they are.
    """
    sessions = SessionPool(routers, partial(Session, dial=dial, limits=limits))

    def announce(progress: ModelProgress) -> None:
        sessions.broadcast(progress)
        if on_progress is not None:
            on_progress(progress)
        if progress.model.state is InstanceState.READY:
            drafts.hand_all(identity.worker_id)

    host = EngineHost(make_engine)
    identity = FleetIdentity(worker_id, enrol)
    models = ModelManager(host, announce=announce, measure=measure, turns=turns, room=room)
    drafts = DraftLinks(host, models=lambda: models.reports, say=sessions.broadcast, tls=tls)
    jobs = JobTable(why_not_ready=models.why_not_ready)
    travelling = model_files(sessions, models) if model_files is not None else None
    tasks = TaskSet()
    availability = Availability(jobs, sessions, tasks)
    return Worker(
        plan,
        identity=identity,
        sessions=sessions,
        engine=host,
        models=models,
        jobs=jobs,
        control=ControlCommands(
            engine=host,
            models=models,
            jobs=jobs,
            files=plan.files,
            travelling=travelling,
            load_options=load_options or {},
        ),
        availability=availability,
        owner=OwnerWatch(pause, availability, drain_s=plan.drain_s, conditions=conditions) if pause else None,
        sleep=SleepWatch(availability, sessions, sleep_program) if sleep_program is not None else None,
        tasks=tasks,
        drafts=drafts,
        door=door,
        travelling=travelling,
    )


def _model_files(
    config: WorkerConfig, security: ChannelSecurity | None, sessions: SessionPool, models: ModelManager
) -> ModelFiles:
    folder = Path(config.models_dir) if config.models_dir else Home.of().models
    return ModelFiles(
        ModelLibrary(folder, HashCache(Path(config.state_dir) / "model-hashes.json")),
        ModelDisk(folder=folder, keep_free_bytes=config.keep_free_bytes, max_bytes=config.max_models_bytes),
        sessions=sessions,
        served=models.served,
        identified=models.identify,
        security=security,
        fetches=config.fetch,
        shares=config.share,
        fetch_bytes_per_s=config.fetch_bytes_per_s,
        share_bytes_per_s=config.share_bytes_per_s,
    )


def _conditions(config: WorkerConfig, engine: EngineSpec) -> ConditionWatch | None:
    when = When(config.when)
    asked_s = config.battery_price_s if engine.computes_here(config.base_url) else 0.0
    if when is When.ALWAYS and not asked_s:
        return None
    looking = Looking(activity=when is When.IDLE)
    every_s = CONDITIONS_EVERY_S if when is When.IDLE else POWER_EVERY_S
    return ConditionWatch(when, lambda: looking.look(living(meeting_place())), asked_s=asked_s, every_s=every_s)


def _listen_to_signals(worker: Worker) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop, f"the worker was stopped ({number.name})")
    loop.add_signal_handler(signal.SIGUSR1, worker.availability.toggle_sleep)
    loop.add_signal_handler(signal.SIGUSR2, worker.availability.wake)


async def _enrol(
    config: WorkerConfig, profile: Profile, identity: IdentityFile, security: ChannelSecurity | None
) -> EnrolReply:
    enrolment = await enrol_anywhere(config.routers, profile, token=config.token, security=security)
    identity.write(enrolment.worker_id)
    return enrolment


def _benchmark(config: WorkerConfig, hardware: Hardware, turns: MachineTurns | None) -> JoinBenchmark | None:
    if config.benchmark == "off":
        return None
    store = BenchmarkStore(Path(config.cache_dir) / "benchmarks", config.max_disk_bytes // 2)
    return JoinBenchmark(hardware, Effort(config.benchmark), store, turns)


async def _files(config: WorkerConfig, engine: EngineSpec) -> LocalFiles | None:
    """What lies on this machine for a router to choose from, where it may."""
    if not config.wait_for_models:
        return None
    files = LocalFiles(engine, Path(config.models_dir) if config.models_dir else Home.of().models)
    await asyncio.to_thread(files.look)
    return files


async def _models(config: WorkerConfig, engine: EngineSpec) -> tuple[ModelConfig, ...]:
    if config.models or not engine.asks_server:
        return config.models
    found = await engine.discover(config.base_url, os.environ.get(config.api_key_env, ""))
    log.info("server.discovered", base_url=config.base_url, models=found)
    return tuple(ModelConfig(name=public_name(name), path=name) for name in found)


def _spec(config: WorkerConfig, engine: EngineSpec, model: ModelConfig) -> ModelSpec:
    options = {**_options(config, engine), **model.options}
    if engine.asks_server:
        options["upstream_model"] = model.path  # what the server calls it
    return ModelSpec(
        name=model.name or public_name(model.path),
        path=config.base_url if engine.asks_server else model.path,
        quantization=canonical(model.quantization),
        context_tokens=model.context_tokens or config.context_tokens,
        slots=model.slots or config.slots or (engine.capped_slots if config.max_memory_bytes else 0),
        options=options,
        order=model.order,
    )


def _options(config: WorkerConfig, engine: EngineSpec) -> dict[str, Option]:
    options = dict(config.options)
    if config.threads:
        options["threads"] = config.threads
    if engine.asks_server:
        options["api_key_env"] = config.api_key_env
    return options
