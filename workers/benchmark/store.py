"""Benchmark results in files: read again when machine, engine, model file and settings are the same."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from protos.contract.worker import Hardware, ModelInstance
from workers.benchmark.measured_speed import MeasuredSpeed
from workers.engines.base import ModelSpec

SAMPLE_BYTES = 2**20
"""A file is known by its size and its first and last MiB: reading 40 GB to skip ten seconds would be no gain."""


METHOD = 5
"""Of the join benchmark: raised when it measures otherwise, so that figures of an older way are not read again."""


DRIVERS = ("driver", "cuda", "power_limit_w", "macos", "kernel", "threads", "devices")
"""Details of the hardware that speed depends on; threads: as many as neighbours left when the worker started."""


def file_fingerprint(path: Path) -> str:
    """What is in a model file or folder, shortly; empty when there is no such file (a URL, a named profile)."""
    digest = hashlib.sha256()
    try:
        files = [path] if path.is_file() else sorted(one for one in path.glob("*") if one.is_file())
        for one in files:
            size = one.stat().st_size
            digest.update(f"{one.name}:{size}".encode())
            with one.open("rb") as stream:
                digest.update(stream.read(SAMPLE_BYTES))
                stream.seek(max(0, size - SAMPLE_BYTES))
                digest.update(stream.read(SAMPLE_BYTES))
    except OSError:
        return ""
    return digest.hexdigest() if files else ""


def dependencies(
    hardware: Hardware, engine: str, engine_version: str, loaded: ModelInstance, spec: ModelSpec, effort: str
) -> dict[str, str]:
    """Everything a measurement depends on, by name; ``file`` is empty where it cannot be known."""
    return {
        "method": str(METHOD),
        "hardware": " ".join((hardware.kind, hardware.name)),
        "devices": str(hardware.count),
        "cores": str(hardware.cores),
        **{name: hardware.details[name] for name in DRIVERS if name in hardware.details},
        "power": " ".join(
            word for word, holds in (("battery", hardware.on_battery), ("low", hardware.low_power)) if holds
        ),
        "engine": engine,
        "engine_version": engine_version,
        "file": file_fingerprint(Path(spec.path)),
        "quantization": loaded.quantization,
        "slots": str(loaded.slots),
        "context_tokens": str(loaded.context_tokens),
        "options": repr(sorted(spec.options.items())),
        "effort": str(effort),
    }


def benchmark_key(facts: Mapping[str, str]) -> str:
    """One name for all of them; empty: not to be kept (what is behind a URL may change)."""
    return hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()[:32] if facts["file"] else ""


class BenchmarkStore:
    """One JSON file a measurement; beyond ``max_bytes`` in all the oldest go."""

    def __init__(self, folder: Path, max_bytes: int = 32 * 2**20) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def read(self, key: str) -> MeasuredSpeed | None:
        """What was measured, or None."""
        try:
            return msgspec.json.decode((self._folder / f"{key}.json").read_bytes(), type=MeasuredSpeed)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, key: str, speed: MeasuredSpeed) -> None:
        """Keep a measurement; a cache that cannot be written is not an error."""
        draft = self._folder / f"{key}.{os.getpid()}.tmp"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(speed))
            draft.replace(self._folder / f"{key}.json")
            self._prune()
        except OSError:
            draft.unlink(missing_ok=True)

    def _prune(self) -> None:
        files = sorted(((one, one.stat()) for one in self._folder.glob("*.json")), key=lambda one: -one[1].st_mtime)
        held = 0
        for path, about in files:
            held += about.st_size
            if held > self._max_bytes:
                path.unlink(missing_ok=True)
