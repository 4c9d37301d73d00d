"""The composition root of a worker: from a configuration to a worker that serves until it is stopped."""

import asyncio
import os
import platform
from collections.abc import Callable
from pathlib import Path

import structlog

from workers.benchmark.join_benchmark import Effort, JoinBenchmark
from workers.benchmark.store import BenchmarkStore
from workers.config import ModelConfig, Option, WorkerConfig, public_name
from workers.engines.base import ModelSpec
from workers.engines.openai_compatible.discovery import discover
from workers.engines.simulated.hardware import declared_hardware
from workers.engines.table import accelerates, make_engine, with_threads
from workers.facts import Hardware, Profile
from workers.hardware.detect import this_machine
from workers.serving.worker import Ended, Worker, WorkerSetup
from workers.session.channel import ChannelSecurity
from workers.session.enrolment import Enrolment, enrol_anywhere
from workers.session.identity_file import IdentityFile
from workers.session.messages import ModelProgress
from workers.versions import own_version

log = structlog.get_logger(__name__)


async def serve(
    config: WorkerConfig,
    *,
    worker_id: str = "",
    security: ChannelSecurity | None = None,
    hardware: Hardware | None = None,
    signals: bool = True,
    on_progress: Callable[[ModelProgress], None] | None = None,
    leave_unless_loaded: bool = False,
) -> Ended:
    """Run a worker until it ends. With ``worker_id`` and ``security`` (from a join) it does not enrol by itself.
    ``leave_unless_loaded``: it leaves the pool when none of its models can be loaded at the start.

    Raises LoadError (no such engine, package missing), EnrolFailed, ConfigError: one clear line each.
    """
    models = await _model_specs(config)
    probe = make_engine(config.engine)  # a missing package is said before anything else happens
    hardware = hardware or _declared_hardware(config, models)
    if hardware is None:
        hardware = await asyncio.to_thread(this_machine, gpu=accelerates(config.engine))
    hardware = with_threads(hardware, config.engine, _threads(config))
    profile = Profile(
        node=config.node,
        hardware=hardware,
        engine=probe.kind,
        engine_version=probe.version,
        labels=config.labels,
        platform=f"{platform.system()}-{platform.machine()}".lower(),
        version=own_version(),
    )
    await probe.close()
    identity = IdentityFile(Path(config.state_dir), config.node, config.engine, tuple(one.path for one in models))
    try:
        setup = WorkerSetup(
            make_engine=lambda: make_engine(config.engine),
            profile=profile,
            routers=config.routers,
            models=models,
            worker_id=worker_id or identity.read(),
            enrol=None if worker_id else lambda: _enrol(config, profile, identity, security),
            measure=_benchmark(config, hardware),
            security=security,
            drain_s=config.drain_s,
            load_options=_options(config),
            on_progress=on_progress,
            leave_unless_loaded=leave_unless_loaded,
        )
        return await Worker(setup).run(signals=signals)
    finally:
        identity.close()


def _threads(config: WorkerConfig) -> int:
    told = config.threads or config.options.get("threads", 0)
    return told if isinstance(told, int) else 0


def _declared_hardware(config: WorkerConfig, models: tuple[ModelSpec, ...]) -> Hardware | None:
    """A simulated worker is the machine its first profile describes, not the one it happens to run on."""
    if config.engine != "simulated" or not models:
        return None
    return declared_hardware(models[0].path, models[0].quantization)


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


async def _model_specs(config: WorkerConfig) -> tuple[ModelSpec, ...]:
    if config.engine == "openai" and not config.models:
        found = await discover(config.base_url, os.environ.get(config.api_key_env, ""))
        log.info("server.discovered", base_url=config.base_url, models=found)
        return tuple(_spec(config, ModelConfig(name=public_name(name), path=name)) for name in found)
    return tuple(_spec(config, model) for model in config.models)


def _spec(config: WorkerConfig, model: ModelConfig) -> ModelSpec:
    options = {**_options(config), **model.options}
    path = model.path
    if config.engine == "openai":
        options["upstream_model"] = model.path  # what the server calls it
        path = config.base_url
    return ModelSpec(
        name=model.name or public_name(model.path),
        path=path,
        quantization=model.quantization,
        context_tokens=model.context_tokens or config.context_tokens,
        slots=model.slots or config.slots,
        options=options,
    )


def _options(config: WorkerConfig) -> dict[str, Option]:
    options = dict(config.options)
    if config.threads:
        options["threads"] = config.threads
    if config.engine == "openai":
        options["api_key_env"] = config.api_key_env
    return options
