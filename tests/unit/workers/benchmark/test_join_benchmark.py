"""Rule: who measures is alone on the machine; one figure of a speed is told everywhere, and only a true one is kept."""

import asyncio
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from protos.contract.events import ModelProgress
from protos.contract.ids import WorkerId
from protos.contract.joining.enrolment import ModelOffer
from protos.contract.worker import Hardware, InstanceState, ModelInstance, Speed
from router.cli.fleet import fleet_table
from router.cli.support.tables import wide_console
from router.domain.snapshot import FleetSnapshot, WorkerView
from router.domain.worker import WorkerProfile, WorkerState
from router.http.admin.fleet_view import fleet_body
from workers.benchmark import join_benchmark
from workers.benchmark.join_benchmark import JoinBenchmark
from workers.benchmark.measured_speed import MeasuredSpeed
from workers.benchmark.plan import Effort
from workers.benchmark.store import BenchmarkStore
from workers.engines.base import ModelSpec
from workers.engines.simulated.engine import SimulatedEngine
from workers.engines.step_reader import StepReader
from workers.joining.view import JoinView
from workers.neighbours.turns import MachineTurns

CPU = Hardware(kind="cpu", name="AMD EPYC", memory_bytes=24 * 2**30, cores=2)


class Machine:
    """A real engine with a model, measured as a worker does it."""

    def __init__(self, tmp_path: Path, profile: Path, *, wait_s: float = 60.0) -> None:
        self.turns = MachineTurns(tmp_path / "machine", wait_s=wait_s)
        self.said: list[str] = []
        self._kept = tmp_path / "kept"
        self._spec = ModelSpec(name="m", path=str(profile), slots=4)

    @property
    def kept(self) -> int:
        return len(list(self._kept.glob("*.json")))

    async def measure(self) -> MeasuredSpeed | None:
        engine = SimulatedEngine()
        reader = StepReader(engine, lambda _: None)
        reader.start()
        try:
            loaded = await engine.load(self._spec, lambda *_: None)
            benchmark = JoinBenchmark(CPU, Effort.QUICK, BenchmarkStore(self._kept), self.turns)
            return await benchmark(engine, reader, loaded, self._spec, self.said.append)
        finally:
            await reader.stop()
            await engine.close()


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    source = Path("workers/engines/simulated/profiles/h100-sxm.toml")
    path = tmp_path / "profile.toml"
    path.write_text(source.read_text())
    return path


async def test_a_measurement_waits_for_its_turn_and_one_that_is_kept_for_nobody(tmp_path: Path, profile: Path) -> None:
    """Once measured, the same machine and model start at once, whoever is measured meanwhile."""
    machine = Machine(tmp_path, profile)
    async with machine.turns.measuring():
        waiting = asyncio.create_task(machine.measure())
        while not machine.said:
            await asyncio.sleep(0.01)
        assert not machine.kept
    first = await waiting
    assert first is not None
    assert machine.kept == 1
    async with machine.turns.measuring():
        assert await asyncio.wait_for(machine.measure(), 60) == first


async def test_what_was_measured_beside_others_is_told_and_not_kept(tmp_path: Path, profile: Path) -> None:
    """It is what this machine does just now; the next start measures again."""
    machine = Machine(tmp_path, profile, wait_s=0.1)
    async with machine.turns.measuring():
        assert await machine.measure() is not None
    assert machine.kept == 0


async def test_what_does_not_fit_is_told_and_not_kept(
    tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that did now this, now that says little about its next start."""
    monkeypatch.setattr(join_benchmark, "KEPT_BELOW", -1.0)
    machine = Machine(tmp_path, profile)
    assert await machine.measure() is not None
    assert machine.kept == 0


async def test_the_log_tells_the_figure_of_the_tables(tmp_path: Path, profile: Path) -> None:
    """Of one stream, at the same context."""
    machine = Machine(tmp_path, profile)
    with capture_logs() as logs:
        speed = await machine.measure()
    assert speed is not None
    (told,) = (one for one in logs if one["event"] == "benchmark.complete")
    assert told["tokens_per_s"] == round(speed.stream_tokens_per_s, 1)


@pytest.mark.parametrize(
    "speed",
    [
        Speed(base_s=0.0079, per_sequence_s=0.0004, per_context_token_s=5.2e-6, prefill_tokens_per_s=410.0),
        Speed(base_s=0.03, per_sequence_s=0.0, per_context_token_s=1e-4, prefill_tokens_per_s=90.0, measured=True),
        Speed(base_s=0.0, per_sequence_s=0.002, per_context_token_s=0.0, prefill_tokens_per_s=9.0, measured=True),
    ],
)
def test_the_join_s_table_and_the_fleet_s_tell_one_figure(speed: Speed, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a stream of 256 tokens: what one machine said within ten seconds were three speeds once."""
    monkeypatch.setenv("COLUMNS", "140")
    model = ModelInstance(model="m", quantization="q8_0", state=InstanceState.READY, speed=speed)
    view = JoinView(Console(file=StringIO(), width=200))
    view.expected = (
        ModelOffer(
            model="m", quantization="q8_0", tokens_per_s=50.0, prefill_tokens_per_s=9.0, memory_bytes=1, reason=""
        ),
    )
    view.progress(ModelProgress(model=model, fraction=1.0, message="ready"))
    joined = view.console.file.getvalue()  # type: ignore[attr-defined]
    profile = WorkerProfile(worker_id=WorkerId("w"), incarnation="1", node="mac", hardware=CPU, engine="llama.cpp")
    snapshot = FleetSnapshot(
        version=1, taken_at=0.0, workers=(WorkerView(profile=profile, state=WorkerState.READY, models=(model,)),)
    )
    out = StringIO()
    console = wide_console()
    console.file = out
    console.print(fleet_table(fleet_body(snapshot)))
    (shown,) = (line for line in joined.splitlines() if "tokens/s, one stream" in line)
    (row,) = (line for line in out.getvalue().splitlines() if "mac" in line)
    figure = f"{1.0 / speed.step_s(1, 256):.1f}"
    assert figure in shown.split()
    assert figure in re.split(r"\s+", row)
