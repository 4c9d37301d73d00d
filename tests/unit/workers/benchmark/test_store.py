"""Measurements are read again only where everything they depend on is the same."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.worker import Capabilities, Hardware, ModelInstance
from workers.benchmark import store as benchmark_store
from workers.benchmark.measured_speed import MeasuredSpeed, StepSample
from workers.benchmark.store import BenchmarkStore, benchmark_key, dependencies, file_fingerprint
from workers.engines.base import ModelSpec

HARDWARE = Hardware(kind="apple", name="Apple M4 Max", cores=40)
SPEED = MeasuredSpeed(
    base_s=0.01,
    per_sequence_s=0.001,
    per_context_token_s=1e-6,
    prefill_tokens_per_s=500.0,
    samples=(StepSample(batch=1, context_tokens=10, prefill_tokens=0, step_s=0.01),),
)


def loaded(**changes: object) -> ModelInstance:
    facts: dict[str, object] = {
        "model": "m", "quantization": "q8_0", "format": "gguf", "context_tokens": 4096, "slots": 8,
        "capabilities": Capabilities(),
    }  # fmt: skip
    return ModelInstance(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights" * 1000)
    return ModelSpec(name="m", path=str(path), options={"threads": 1})


def key(
    spec: ModelSpec, hardware: Hardware = HARDWARE, version: str = "1", effort: str = "full", **model: object
) -> str:
    return benchmark_key(dependencies(hardware, "llama.cpp", version, loaded(**model), spec, effort))


def test_the_same_circumstances_have_the_same_key(spec: ModelSpec) -> None:
    """Also under another name, and after a restart."""
    assert key(spec) == key(replace(spec, name="other")) != ""


def test_whatever_a_measurement_depends_on_changes_the_key(spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine, its driver and power, engine, file, format, slots, context, options, effort, how it is measured."""
    keys = {
        key(spec),
        key(spec, replace(HARDWARE, name="Apple M4 Pro")),
        key(spec, replace(HARDWARE, cores=32)),
        key(spec, replace(HARDWARE, low_power=True)),
        key(spec, replace(HARDWARE, on_battery=True)),
        key(spec, replace(HARDWARE, details={"driver": "580.159.04"})),
        key(spec, replace(HARDWARE, details={"driver": "590.48.01"})),
        key(spec, replace(HARDWARE, details={"driver": "580.159.04", "power_limit_w": "400"})),
        key(spec, replace(HARDWARE, details={"threads": "4"})),
        key(spec, replace(HARDWARE, details={"devices": "1 x A, 1 x B"})),
        key(spec, version="2"),
        key(spec, effort="quick"),
        key(spec, quantization="q4_k_m"),
        key(spec, slots=16),
        key(spec, context_tokens=8192),
        key(replace(spec, options={"threads": 2})),
    }
    Path(spec.path).write_bytes(b"weightz" * 1000)
    keys.add(key(spec))
    monkeypatch.setattr(benchmark_store, "METHOD", benchmark_store.METHOD + 1)
    keys.add(key(spec))
    assert len(keys) == 18
    assert key(spec, replace(HARDWARE, details={"pcie": "5.0 x16"})) == key(spec), "what steps do not depend on"


def test_what_has_no_file_is_measured_anew() -> None:
    """What is behind a URL may change any time."""
    assert key(ModelSpec(name="m", path="http://127.0.0.1:11434/v1")) == ""


def test_a_file_is_known_by_its_ends_and_size(tmp_path: Path) -> None:
    """The name does not count as little as the folder does; a changed last byte does."""
    one = tmp_path / "one.gguf"
    one.write_bytes(b"\0" * 3_000_000 + b"1")
    before = file_fingerprint(one)
    one.write_bytes(b"\0" * 3_000_000 + b"2")
    assert file_fingerprint(one) != before
    assert file_fingerprint(tmp_path / "missing.gguf") == ""


def test_a_measurement_comes_back_whole_and_a_broken_file_is_none(tmp_path: Path) -> None:
    """A cache that cannot be read is measured again, never an error."""
    store = BenchmarkStore(tmp_path / "cache")
    assert store.read("k") is None
    store.write("k", SPEED)
    assert store.read("k") == SPEED
    (tmp_path / "cache" / "k.json").write_bytes(b'{"base_s": ')
    assert store.read("k") is None


def test_beyond_its_bound_the_oldest_measurements_go(tmp_path: Path) -> None:
    """What the owner lets a worker keep on disk is not exceeded, whatever it measures."""
    kept = BenchmarkStore(tmp_path, max_bytes=1000)
    for number in range(20):
        kept.write(f"{number:02}", SPEED)
        os.utime(tmp_path / f"{number:02}.json", (number, number))
    size = (tmp_path / "19.json").stat().st_size
    names = sorted(one.name for one in tmp_path.glob("*"))
    assert len(names) == 1000 // size > 1
    assert names[-1] == "19.json"
    assert kept.read("19") == SPEED
    assert kept.read("00") is None
