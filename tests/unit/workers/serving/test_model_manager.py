"""Rule: a model asked for is loading, ready, failed with a reason, or gone; an engine's death loads each once more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from protos.contract.events import ModelProgress
from protos.contract.worker import InstanceState, ModelInstance, Speed
from tests.support.echo_engine import EchoEngine
from tests.support.until import until_changed
from workers.engines.base import Engine, LoadError, ModelSpec, Progress
from workers.engines.step_reader import StepReader
from workers.neighbours.shares import Bounds, Shares
from workers.neighbours.turns import MachineTurns, Say
from workers.serving import model_manager
from workers.serving.engine_host import EngineHost
from workers.serving.model_manager import Measure, ModelManager
from workers.serving.model_room import ModelRoom

ONE, TWO = ModelSpec(name="one", path="one-q8_0.file"), ModelSpec(name="two", path="two.file")
SPEED = Speed(base_s=0.01, per_sequence_s=0.001, per_context_token_s=0.0, prefill_tokens_per_s=100.0)


class Loader(EchoEngine):
    """Says what it loads, and waits while its door is shut."""

    def __init__(self, loads: list[str], door: asyncio.Event, loading: asyncio.Event) -> None:
        super().__init__()
        self._loads, self._door, self._loading = loads, door, loading

    async def load(self, spec: ModelSpec, progress: Progress) -> ModelInstance:
        self._loads.append(spec.name)
        self._loading.set()
        await self._door.wait()
        if "bug" in spec.path:
            raise RuntimeError("a bug")
        if (spec.name, spec.quantization or "none") in self._models:
            raise LoadError("loaded twice")
        return await super().load(spec, progress)


class Models:
    """A manager over a host whose engines are ours; what it announced, in order."""

    def __init__(
        self, measure: Measure | None = None, turns: MachineTurns | None = None, room: ModelRoom | None = None
    ) -> None:
        self.loads: list[str] = []
        self.door = asyncio.Event()
        self.door.set()
        self.loading = asyncio.Event()
        self.engines: list[Loader] = []
        self.said: list[tuple[str, str, InstanceState, str]] = []
        self.announced = asyncio.Event()
        self.failures: list[str] = []
        self.host = EngineHost(self._make)
        self.manager = ModelManager(self.host, announce=self._announce, measure=measure, turns=turns, room=room)
        self.host.start(on_step=lambda _: None, on_failed=self.failures.append)

    def _make(self) -> Engine:
        self.engines.append(Loader(self.loads, self.door, self.loading))
        return self.engines[-1]

    def _announce(self, progress: ModelProgress) -> None:
        one = progress.model
        self.said.append((one.model, one.quantization, one.state, progress.message))
        self.announced.set()

    async def until(self, reached: Callable[[], Any]) -> None:
        await until_changed(self.announced, reached)

    @property
    def states(self) -> dict[str, InstanceState]:
        return {one.model: one.state for one in self.manager.reports}


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    made = Models()
    yield made
    await made.host.close()


async def test_a_model_loads_and_takes_work_from_then_on(models: Models) -> None:
    """Its quantization is the file's, not its name's; both are announced."""
    assert models.manager.why_not_ready("one", "") == "one is not loaded here"
    assert await models.manager.load(ONE)
    assert list(dict.fromkeys((quantization, state) for _, quantization, state, _ in models.said)) == [
        ("q8_0", InstanceState.LOADING),
        ("q8_0", InstanceState.UNLOADED),
        ("none", InstanceState.READY),
    ]
    assert models.manager.why_not_ready("one", "") == models.manager.why_not_ready("one", "none") == ""
    assert models.manager.why_not_ready("one", "q8_0") == "one@q8_0 is not loaded here"


@pytest.mark.parametrize(("path", "why"), [("missing.file", "no such file"), ("bug.file", "RuntimeError: a bug")])
async def test_a_model_that_cannot_be_loaded_is_a_state_and_no_exception(models: Models, path: str, why: str) -> None:
    """With one line that says why; the next one loads."""
    assert not await models.manager.load(ModelSpec(name="bad", path=path))
    assert models.states == {"bad": InstanceState.FAILED}
    assert why in models.manager.why_not_ready("bad", "")
    assert await models.manager.load(ONE)


async def test_a_load_that_takes_too_long_fails(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a deadline that grows with the file."""
    monkeypatch.setattr(model_manager, "LOAD_DEADLINE_S", 0.0)
    models.door.clear()
    assert not await models.manager.load(ONE)
    assert "not loaded within 0 s" in models.manager.why_not_ready("one", "")


async def test_models_load_one_after_the_other(models: Models) -> None:
    """They share the machine's memory; who waits says so."""
    models.door.clear()
    first = asyncio.create_task(models.manager.load(ONE))
    await models.loading.wait()
    second = asyncio.create_task(models.manager.load(TWO))
    await models.until(lambda: any(message == "waiting for its turn" for *_, message in models.said))
    assert models.loads == ["one"]
    models.door.set()
    assert await first
    assert await second
    assert models.loads == ["one", "two"]


async def test_a_model_loads_once_nobody_is_measured_on_this_machine(tmp_path: Path) -> None:
    """Who waits says so; an engine that dies meanwhile loads it with all else, once."""
    turns = MachineTurns(tmp_path)
    models = Models(turns=turns)
    async with turns.measuring():
        first = asyncio.create_task(models.manager.load(ONE))
        await models.until(lambda: any("being measured: waiting" in message for *_, message in models.said))
        assert not models.loads
        models.manager.engine_failed("a bug")
    assert not await first
    await models.manager.reload()
    assert models.loads == ["one"]
    assert models.states == {"one": InstanceState.READY}
    await models.host.close()


async def test_models_take_their_room_and_give_it_back(tmp_path: Path) -> None:
    """What does not fit the owner's cap is refused before it is loaded; a failed load and an unload take nothing."""
    shares = Shares(tmp_path, "me", Bounds(max_memory_bytes=10))
    models = Models(room=ModelRoom(shares, lambda spec: 6))
    other = Shares(tmp_path, "other", Bounds())
    assert not await models.manager.load(ModelSpec(name="bad", path="missing.file"))
    assert await models.manager.load(ONE)
    assert not await models.manager.load(TWO)
    assert "(--max-memory)" in models.manager.why_not_ready("two", "")
    assert models.loads == ["bad", "one"]
    assert [one.memory for one in other.others()] == [{"one (one-q8_0.file)": 6}]
    await models.manager.unload("one", "none")
    assert await models.manager.load(TWO)
    assert [one.memory for one in other.others()] == [{"two (two.file)": 6}]
    shares.close()
    await models.host.close()


async def test_an_unloaded_model_is_gone_from_engine_and_reports(models: Models) -> None:
    """One that failed is not in the engine; one that nobody knows is ignored."""
    await models.manager.load(ONE)
    await models.manager.load(ModelSpec(name="bad", path="missing.file", quantization="q8_0"))
    await models.manager.unload("one", "none")
    await models.manager.unload("bad", "q8_0")
    await models.manager.unload("nobody", "")
    assert models.manager.reports == ()
    assert models.engines[0].models == ()
    assert [state for *_, state, _ in models.said[-2:]] == [InstanceState.UNLOADED] * 2


async def test_a_measured_model_is_reported_with_its_speed() -> None:
    """None: it could not be measured, and is ready all the same."""
    for speed in (SPEED, None):

        async def measure(
            engine: Engine,
            _reader: StepReader,
            loaded: ModelInstance,
            _spec: ModelSpec,
            _say: Say,
            told: Speed | None = speed,
        ) -> Speed | None:
            assert loaded in engine.models
            return told

        models = Models(measure)
        await models.manager.load(ONE)
        (report,) = models.manager.reports
        assert (report.state, report.speed) == (InstanceState.READY, speed)
        assert InstanceState.BENCHMARKING in [state for *_, state, _ in models.said]
        await models.host.close()


# ---------------------------------------------------------------- a dying engine


async def test_after_an_engines_death_every_model_comes_back_in_the_next(models: Models) -> None:
    """Meanwhile it says why it takes no work."""
    await models.manager.load(ONE)
    assert models.manager.engine_failed("out of memory")
    assert models.manager.why_not_ready("one", "none") == "one@none is loading: the engine died: out of memory"
    await models.host.restart()
    await models.manager.reload()
    assert models.states == {"one": InstanceState.READY}
    assert [one.model for one in models.engines[1].models] == ["one"]


async def test_what_waits_its_turn_when_an_engine_dies_is_loaded_once(models: Models) -> None:
    """So is what is asked for before there is another engine; a load under way ends with the engine."""
    models.door.clear()
    first = asyncio.create_task(models.manager.load(ONE))
    await models.loading.wait()
    second = asyncio.create_task(models.manager.load(TWO))
    await models.until(lambda: "two" in models.states)
    models.manager.engine_failed("out of memory")
    third = asyncio.create_task(models.manager.load(ModelSpec(name="three", path="three.file")))
    assert not await first
    await models.host.restart()
    models.door.set()
    await models.manager.reload()
    assert await second
    assert await third
    assert models.loads == ["one", "one", "two", "three"]
    assert set(models.states.values()) == {InstanceState.READY}
    assert len(models.engines[1].models) == 3


async def test_a_death_under_the_benchmark_loads_the_model_again() -> None:
    """The measurement ends with the engine."""
    measuring, finish = asyncio.Event(), asyncio.Event()

    async def measure(*_: object) -> Speed | None:
        measuring.set()
        await finish.wait()
        return SPEED

    models = Models(measure)
    loading = asyncio.create_task(models.manager.load(ONE))
    await measuring.wait()
    models.manager.engine_failed("out of memory")
    assert await loading
    assert models.states == {"one": InstanceState.LOADING}
    await models.host.restart()
    finish.set()
    await models.manager.reload()
    assert models.states == {"one": InstanceState.READY}
    await models.host.close()


async def test_an_engine_that_dies_too_often_is_not_worth_another(models: Models) -> None:
    """Its models have failed then."""
    await models.manager.load(ONE)
    assert [models.manager.engine_failed("again") for _ in range(4)] == [True, True, True, False]
    assert models.states == {"one": InstanceState.FAILED}
