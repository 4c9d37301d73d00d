"""Benchmark results in files: read again when machine, engine, model file and settings are the same."""

import hashlib
import os
from pathlib import Path

import msgspec

from protos.contract.worker import Hardware, ModelInstance
from workers.benchmark.measured_speed import MeasuredSpeed
from workers.engines.base import ModelSpec

SAMPLE_BYTES = 2**20
"""A file is known by its size and its first and last MiB: reading 40 GB to skip ten seconds would be no gain."""


METHOD = 4
"""Of the join benchmark: raised when it measures otherwise, so that figures of an older way are not read again."""


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


def benchmark_key(
    hardware: Hardware, engine: str, engine_version: str, loaded: ModelInstance, spec: ModelSpec, effort: str
) -> str:
    """One name for everything a measurement depends on; empty: not to be kept (what is behind a URL may change)."""
    fingerprint = file_fingerprint(Path(spec.path))
    if not fingerprint:
        return ""
    facts = (
        METHOD,
        hardware.kind,
        hardware.name,
        hardware.count,
        hardware.cores,
        hardware.low_power,
        engine,
        engine_version,
        fingerprint,
        loaded.quantization,
        loaded.slots,
        loaded.context_tokens,
        sorted(spec.options.items()),
        effort,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


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
