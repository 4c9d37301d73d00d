"""A worker among the others of its machine: when it measures and loads, and what it takes."""

from dataclasses import replace
from pathlib import Path

import msgspec

from protos.contract.worker import Hardware, Profile
from workers.config import WorkerConfig
from workers.engines.base import LoadError, ModelSpec
from workers.engines.spec import SHARE_CORES, EngineSpec
from workers.hardware.cpu import compute_cores
from workers.neighbours.place import meeting_place
from workers.neighbours.shares import Bounds, Shares
from workers.neighbours.turns import MachineTurns

UNIFIED = ("cpu", "apple")
"""Kinds of hardware whose models lie in the machine's own memory, where mapped weights seem free to the system."""


class Neighbourhood:
    """``turns`` and ``shares`` are None for an engine that computes elsewhere."""

    def __init__(self, config: WorkerConfig, engine: EngineSpec, hardware: Hardware) -> None:
        self._config = config
        self._engine = engine
        self.turns: MachineTurns | None = None
        self.shares: Shares | None = None
        if engine.computes_here(config.base_url):
            self.turns = MachineTurns(meeting_place())
            if not engine.asks_server:
                self.shares = Shares(meeting_place(), config.node, bounds_of(config, hardware))

    def agreed(self, profile: Profile) -> tuple[WorkerConfig, Profile]:
        """The configuration and the profile with the cores that are left for an engine that computes on them."""
        bounds = bounds_of(self._config, profile.hardware)
        default = min(self._engine.default_threads, bounds.cores or 1)
        if self.shares is None or profile.hardware.kind != "cpu" or not default:
            return self._config, profile
        asked = asked_threads(self._config)
        granted = self.shares.take_cores(asked=asked, default=default)
        known = replace(profile, hardware=self._engine.with_threads(profile.hardware, granted))
        if asked:
            return msgspec.structs.replace(self._config, threads=granted), known
        # how many it is changes as neighbours come and go: the engine looks, and takes at most so many
        most = min(default, bounds.max_cores or default)
        options = {**self._config.options, SHARE_CORES: True}
        return msgspec.structs.replace(self._config, threads=most, options=options), known

    def needs(self, spec: ModelSpec) -> int:
        """Bytes of memory that a model will take; 0: not known. Blocks."""
        return needs_of(self._engine, Path(spec.path), spec.context_tokens, spec.slots)

    def close(self) -> None:
        """Take nothing any more."""
        if self.shares is not None:
            self.shares.close()


def bounds_of(config: WorkerConfig, hardware: Hardware) -> Bounds:
    """The machine's, as far as its workers share it, and the owner's."""
    return Bounds(
        cores=compute_cores(hardware),
        memory_bytes=hardware.memory_bytes if hardware.kind in UNIFIED else 0,
        max_cores=config.max_cores,
        max_memory_bytes=config.max_memory_bytes,
    )


def needs_of(engine: EngineSpec, path: Path, context_tokens: int, slots: int) -> int:
    """Bytes of memory that a model will take; 0: not known. Blocks."""
    try:
        return engine.memory_bytes(path, context_tokens, slots)
    except LoadError:
        return 0  # the engine says what is wrong with it, once it is to load it


def asked_threads(config: WorkerConfig) -> int:
    """Threads by flag or by option; 0: none asked for."""
    told = config.threads or config.options.get("threads", 0)
    return told if isinstance(told, int) else 0
