"""The models of a worker: loading them, measuring them, saying where each stands, and bringing a dead engine back."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog

from protos.contract.events import ModelProgress
from protos.contract.models.model_name import quantization_in
from protos.contract.worker import InstanceState, ModelInstance, Speed
from workers.engines.base import Engine, EngineFailed, LoadError, ModelSpec
from workers.engines.step_reader import StepReader
from workers.neighbours.shares import NoRoom
from workers.neighbours.turns import MachineTurns, Say
from workers.serving.engine_host import EngineHost
from workers.serving.model_room import ModelRoom

log = structlog.get_logger(__name__)

T = TypeVar("T")

Measure = Callable[[Engine, StepReader, ModelInstance, ModelSpec, Say], Coroutine[Any, Any, Speed | None]]
"""The join benchmark: None when the engine cannot be measured. It says what it waits for."""

LOAD_DEADLINE_S = 300.0
LOAD_DEADLINE_S_PER_GIB = 20.0
"""Model load deadline: 5 min + 20 s per GiB (LocalAI; FACTS, overheads)."""

MAX_RESTARTS = 3
RESTART_WINDOW_S = 600.0
"""An engine that dies more often than this is not started again."""

PROGRESS_INTERVAL_S = 0.25


class _EngineGone(EngineFailed):
    """The engine died under what it did for us."""


class ModelManager:
    """Every model this worker was asked to serve, with its state. Loads and measures one at a time.

    ``announce`` hears of every change; ``measure`` is the join benchmark, None: models are not measured; ``turns`` are
    those of the machine that they are loaded on, None: none of them computes here; ``room`` is what they take of it.
    """

    def __init__(
        self,
        engine: EngineHost,
        *,
        announce: Callable[[ModelProgress], None],
        measure: Measure | None = None,
        turns: MachineTurns | None = None,
        room: ModelRoom | None = None,
    ) -> None:
        self._engine = engine
        self._announce = announce
        self._measure = measure
        self._turns = turns
        self._room = room
        self._reports: dict[tuple[str, str], ModelInstance] = {}
        self._specs: dict[tuple[str, str], ModelSpec] = {}
        self._turn = asyncio.Lock()
        self._current: asyncio.Future[Any] | None = None
        self._restarts: deque[float] = deque(maxlen=MAX_RESTARTS)
        self._life = 0  # of engines: what waited for its turn in an earlier one is loaded with all else
        self._down = False

    @property
    def reports(self) -> tuple[ModelInstance, ...]:
        """Where every model stands."""
        return tuple(self._reports.values())

    def why_not_ready(self, model: str, quantization: str) -> str:
        """Why no work for this model is taken now; empty: it is. Any quantization counts when none is named."""
        mine = [one for one in self.reports if one.model == model and quantization in ("", one.quantization)]
        if any(one.state is InstanceState.READY for one in mine):
            return ""
        name = f"{model}@{quantization}" if quantization else model
        if not mine:
            return f"{name} is not loaded here"
        return f"{name} is {mine[0].state}" + (f": {mine[0].error}" if mine[0].error else "")

    # ------------------------------------------------------------ load, measure, unload

    async def load(self, spec: ModelSpec, *, why: str = "") -> bool:
        """Load and measure one model; a failure is reported as the model's state, never raised: False.

        ``why`` it must be loaded again is shown until it is. While there is no engine, it waits for ``reload``.
        """
        pending = ModelInstance(
            model=spec.name,
            quantization=spec.quantization or quantization_in(spec.path),
            state=InstanceState.LOADING,
            file=Path(spec.path).name,
            error=why,
            ordered=spec.order,
        )
        self._specs[pending.key] = spec
        self._set(pending, 0.0, "waiting for its turn" if self._turn.locked() else "loading")
        life, deferred = self._life, self._down
        async with self._turn:
            if deferred or life != self._life:
                return True  # with all the others, once there is an engine
            try:
                loaded = await self._loaded(spec, pending)
            except _EngineGone as gone:
                log.info("model.load_failed", model=spec.name, quantization=pending.quantization, reason=str(gone))
                return False  # told already, and what follows is the restart
            except (LoadError, NoRoom, EngineFailed, TimeoutError) as error:
                self._give_back(spec)
                reason = str(error) or f"not loaded within {load_deadline_s(spec.path):.0f} s"
                return self._failed(pending, reason)
            except Exception as error:
                self._give_back(spec)
                log.exception("model.load_raised", model=spec.name)
                return self._failed(pending, f"{type(error).__name__}: {error}".splitlines()[0])
            await self._measured(spec, pending, loaded)
        return True

    async def _loaded(self, spec: ModelSpec, pending: ModelInstance) -> ModelInstance:
        """Once nobody is measured on this machine."""
        turn = self._turns.loading(partial(self._set, pending, 0.0)) if self._turns is not None else nullcontext(True)
        life = self._life
        async with turn:
            if life != self._life:
                raise _EngineGone("the engine died")
            log.info("model.load_started", model=spec.name, path=spec.path)
            started = time.monotonic()
            if self._room is not None:
                await asyncio.to_thread(self._room.take, spec)
            async with asyncio.timeout(load_deadline_s(spec.path)):
                loaded = await self._unless_dead(self._engine.engine.load(spec, self._progress(pending)))
        log.info("model.load_complete", model=spec.name, seconds=round(time.monotonic() - started, 2))
        return loaded

    async def _measured(self, spec: ModelSpec, pending: ModelInstance, loaded: ModelInstance) -> None:
        file, content = loaded.file or pending.file, loaded.content or pending.content
        report = replace(loaded, file=file, content=content, state=InstanceState.BENCHMARKING, ordered=spec.order)
        if report.key != pending.key:  # the file told better than its name
            del self._reports[pending.key]
            self._specs[report.key] = self._specs.pop(pending.key)
            gone = replace(pending, state=InstanceState.UNLOADED)
            self._announce(_progress(gone, 1.0, "known by another quantization"))
        speed = None
        if self._measure is not None:
            self._set(report, 0.0, "measuring")
            try:
                say = partial(self._set, report, 0.0)
                measuring = self._measure(self._engine.engine, self._engine.reader, loaded, spec, say)
                speed = await self._unless_dead(measuring)
            except EngineFailed:
                return  # said already, and what follows is the restart
        self._set(replace(report, state=InstanceState.READY, speed=speed), 1.0, "ready")

    async def _unless_dead(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the engine's work, but not longer than the engine lives. Raises _EngineGone then."""
        self._current = asyncio.ensure_future(work)
        try:
            await asyncio.wait({self._current})
            if self._current.cancelled():
                raise _EngineGone("the engine died")
            result: T = self._current.result()
            return result
        finally:
            self._current.cancel()
            self._current = None

    def show(self, report: ModelInstance, fraction: float, message: str) -> None:
        """Of a model whose files are on their way: it is known before it is loaded."""
        self._set(report, fraction, message)

    def forget(self, report: ModelInstance) -> bool:
        """What was shown is over; False where it was unloaded, or ordered anew, meanwhile."""
        if self._reports.get(report.key) != report:
            return False
        del self._reports[report.key]
        if not report.quantization:  # it comes back under another name
            self._announce(_progress(replace(report, state=InstanceState.UNLOADED), 1.0, "fetched"))
        return True

    def fetch_failed(self, report: ModelInstance, reason: str) -> None:
        """Its files cannot be had."""
        if self._reports.get(report.key) == report:
            self._failed(report, reason)

    def served(self) -> dict[Path, tuple[str, str]]:
        """The files and folders of all models here, with their names and quantizations."""
        places = {Path(spec.path).absolute(): key for key, spec in self._specs.items()}
        return {path: key for path, key in places.items() if path.exists()}

    def identify(self, contents: Mapping[Path, str]) -> None:
        """The SHA-256 of the contents of model files here, by path."""
        for key, spec in self._specs.items():
            report, content = self._reports.get(key), contents.get(Path(spec.path).absolute(), "")
            if report is not None and content not in ("", report.content):
                self._set(replace(report, content=content), 1.0, "its content is known")

    def retire(self, model: str, quantization: str) -> bool:
        """Take no new work for a model that is to be unloaded; False where there is none, or it goes already."""
        report = self._reports.get((model, quantization))
        if report is None or report.state is InstanceState.UNLOADING:
            return False
        if report.state in (InstanceState.BENCHMARKING, InstanceState.READY):
            self._set(replace(report, state=InstanceState.UNLOADING), 0.0, "finishes what runs")
        return True

    async def unload(self, model: str, quantization: str) -> None:
        """Free a model; unknown ones are ignored."""
        report = self._reports.pop((model, quantization), None)
        if report is None:
            return
        spec = self._specs.pop(report.key, None)
        if report.state in (InstanceState.BENCHMARKING, InstanceState.READY, InstanceState.UNLOADING):
            await self._engine.engine.unload(model, quantization)
        if spec is not None:
            self._give_back(spec)
        self._announce(_progress(replace(report, state=InstanceState.UNLOADED), 1.0, "unloaded"))

    def _give_back(self, spec: ModelSpec) -> None:
        if self._room is not None:
            self._room.give_back(spec)

    # ------------------------------------------------------------ a dead engine

    def engine_failed(self, reason: str) -> bool:
        """Say of every loaded model that it is gone; the answer is whether it will be loaded again."""
        self._life += 1
        self._down = True
        if self._current is not None:
            self._current.cancel()
        now = time.monotonic()
        allowed = len(self._restarts) < MAX_RESTARTS or now - self._restarts[0] > RESTART_WINDOW_S
        self._restarts.append(now)
        for report in self.reports:
            if report.state is InstanceState.FAILED:
                continue
            why = f"the engine died: {reason}"
            if allowed:
                self._set(replace(report, state=InstanceState.LOADING, error=why, speed=None), 0.0, why)
            else:
                self._failed(report, why)
        return allowed

    async def reload(self) -> None:
        """Load everything again, in a new engine."""
        self._down = False
        for key, spec in list(self._specs.items()):
            was = self._reports.pop(key, None)
            why = was.error if was is not None and was.state is InstanceState.LOADING else ""
            await self.load(replace(spec, quantization=spec.quantization or key[1]), why=why)

    # ------------------------------------------------------------ telling

    def _failed(self, report: ModelInstance, reason: str) -> bool:
        log.error("model.load_failed", model=report.model, quantization=report.quantization, reason=reason)
        self._set(replace(report, state=InstanceState.FAILED, error=reason, speed=None), 1.0, reason)
        return False

    def _set(self, report: ModelInstance, fraction: float, message: str) -> None:
        self._reports[report.key] = report
        self._announce(_progress(report, fraction, message))

    def _progress(self, report: ModelInstance) -> Callable[[float, str], None]:
        """A progress callback for any thread; passes on a few a second."""
        loop = asyncio.get_running_loop()
        said_at = 0.0

        def progress(fraction: float, message: str) -> None:
            nonlocal said_at
            now = time.monotonic()
            if now - said_at >= PROGRESS_INTERVAL_S:
                said_at = now
                loop.call_soon_threadsafe(self._announce, _progress(report, fraction, message))

        return progress


def _progress(report: ModelInstance, fraction: float, message: str) -> ModelProgress:
    return ModelProgress(model=report, fraction=fraction, message=message)


def load_deadline_s(path: str) -> float:
    """How long a model may take to load, by the size of its file or folder."""
    place = Path(path)
    try:
        files = [place] if place.is_file() else list(place.glob("*"))
        size = sum(one.stat().st_size for one in files)
    except OSError:
        size = 0
    return LOAD_DEADLINE_S + LOAD_DEADLINE_S_PER_GIB * size / 2**30
