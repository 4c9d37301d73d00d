"""Who this worker is: its machine and its engine, looked at once."""

import asyncio
import platform
from collections.abc import Mapping

from protos.contract.joining.versions import own_version
from protos.contract.worker import Hardware, Profile
from workers.config import ModelConfig
from workers.engines.spec import EngineSpec
from workers.hardware.detect import this_machine


async def profile_of(
    engine: EngineSpec,
    *,
    node: str,
    threads: int = 0,
    labels: Mapping[str, str] | None = None,
    model: ModelConfig | None = None,
) -> Profile:
    """``model``: the first that is to be served; with some engines a machine comes with it.

    Raises LoadError when the engine's package is missing, before anything else happens.
    """
    probe = engine.make()
    kind, version = probe.kind, probe.version
    await probe.close()
    hardware = engine.hardware_of(model.path, model.quantization) if model is not None else None
    if hardware is None:
        hardware = await asyncio.to_thread(_this_machine, engine)
    return Profile(
        node=node,
        hardware=engine.with_threads(hardware, threads),
        engine=kind,
        engine_version=version,
        labels=labels or {},
        platform=f"{platform.system()}-{platform.machine()}".lower(),
        version=own_version(),
    )


def _this_machine(engine: EngineSpec) -> Hardware:
    return this_machine(gpu=engine.accelerates())
