"""The composition root of a worker: from a configuration to a worker that serves until it is stopped."""

import os
from collections.abc import Callable
from pathlib import Path

import structlog

from protos.contract.events import ModelProgress
from protos.contract.worker import Hardware, Profile
from workers.benchmark.join_benchmark import Effort, JoinBenchmark
from workers.benchmark.store import BenchmarkStore
from workers.config import ModelConfig, Option, WorkerConfig, public_name
from workers.engines.base import ModelSpec
from workers.engines.spec import EngineSpec
from workers.engines.table import engine_spec
from workers.joining.profile import profile_of
from workers.serving.worker import Ended, Worker, WorkerSetup
from workers.session.channel import ChannelSecurity
from workers.session.enrolment import Enrolment, enrol_anywhere
from workers.session.identity_file import IdentityFile

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
    ``leave_unless_loaded``: it leaves the pool when none of its models can be loaded at the start.

    Raises LoadError (no such engine, package missing), EnrolFailed, ConfigError: one clear line each.
    """
    engine = engine_spec(config.engine)
    models = await _models(config, engine)
    if profile is None:
        profile = await profile_of(
            engine, node=config.node, threads=_threads(config), labels=config.labels, model=next(iter(models), None)
        )
    specs = tuple(_spec(config, engine, one) for one in models)
    identity = IdentityFile(Path(config.state_dir), config.node, config.engine, tuple(one.path for one in specs))
    try:
        setup = WorkerSetup(
            make_engine=engine.make,
            profile=profile,
            routers=config.routers,
            models=specs,
            worker_id=worker_id or identity.read(),
            enrol=None if worker_id else lambda: _enrol(config, profile, identity, security),
            measure=_benchmark(config, profile.hardware),
            security=security,
            drain_s=config.drain_s,
            load_options=_options(config, engine),
            on_progress=on_progress,
            leave_unless_loaded=leave_unless_loaded,
        )
        return await Worker(setup).run(signals=signals)
    finally:
        identity.close()


def _threads(config: WorkerConfig) -> int:
    told = config.threads or config.options.get("threads", 0)
    return told if isinstance(told, int) else 0


async def _enrol(
    config: WorkerConfig, profile: Profile, identity: IdentityFile, security: ChannelSecurity | None
) -> Enrolment:
    enrolment = await enrol_anywhere(config.routers, profile, token=config.token, security=security)
    identity.write(enrolment.worker_id)
    return enrolment


def _benchmark(config: WorkerConfig, hardware: Hardware) -> JoinBenchmark | None:
    if config.benchmark == "off":
        return None
    return JoinBenchmark(hardware, Effort(config.benchmark), BenchmarkStore(Path(config.cache_dir) / "benchmarks"))


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
        quantization=model.quantization,
        context_tokens=model.context_tokens or config.context_tokens,
        slots=model.slots or config.slots,
        options=options,
    )


def _options(config: WorkerConfig, engine: EngineSpec) -> dict[str, Option]:
    options = dict(config.options)
    if config.threads:
        options["threads"] = config.threads
    if engine.asks_server:
        options["api_key_env"] = config.api_key_env
    return options
