"""How each engine is brought up for the contract suite, and one way to run jobs on any of them."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from protos.contract.request import ChatMessage, Job, Sampling
from protos.contract.stream import Accepted, Delta, FinishReason
from protos.contract.worker import Load, ModelInstance
from tests.support.third_party_server import running as third_party_server
from tests.support.toy_engine import toy_engine
from tests.support.until import until_async, until_changed
from workers.engines.base import Engine, ModelSpec, StepResult
from workers.engines.step_reader import StepReader
from workers.engines.table import make_engine

GREEDY = Sampling(temperature=0.0, max_tokens=24)
CONTEXT_TOKENS = 512
SLOTS = 4
ENDS_WITHIN_S = 60.0

SPECULATE = "ALLSORTS_TEST_VLLM_SPECULATE"
"""Environment variable: the whole suite with vLLM speculating by that method (`make test-vllm SPECULATE=tier`)."""


@dataclass(slots=True)
class Run:
    """One job's way through the engine."""

    job: Job
    accepted: Accepted | None = None
    deltas: list[Delta] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def finals(self) -> list[Delta]:
        return [delta for delta in self.deltas if delta.finish_reason is not None]

    @property
    def final(self) -> Delta:
        return self.finals[0]

    async def until(self, reached: Callable[["Run"], Any], within_s: float = ENDS_WITHIN_S) -> None:
        await until_changed(self.changed, lambda: reached(self), within_s=within_s)

    async def end(self, within_s: float = ENDS_WITHIN_S) -> "Run":
        await self.until(lambda run: run.finals, within_s)
        return self


class Rig:
    """An engine with one model loaded, and its step stream read."""

    def __init__(self, name: str, engine: Engine, spec: ModelSpec) -> None:
        self.name = name
        self.engine = engine
        self.spec = spec
        self.loaded: ModelInstance
        self.failures: list[str] = []
        self.cached: set[int] = set()  # text blocks that the engine said it holds
        self._runs: dict[tuple[str, int], Run] = {}
        self._numbers = itertools.count(1)
        self._hub = StepReader(engine, self.failures.append)
        self._hub.add(self._hear)
        self._stepped = asyncio.Event()

    def _hear(self, result: StepResult) -> None:
        for change in result.cache:
            self.cached = (set() if change.cleared else self.cached) - set(change.evicted) | set(change.stored)
        self._stepped.set()
        for delta in result.deltas:
            run = self._runs[delta.request_id, delta.attempt]
            run.deltas.append(delta)
            run.changed.set()

    async def start(self) -> None:
        self._hub.start()
        self.loaded = await self.engine.load(self.spec, lambda _fraction, _message: None)

    async def stop(self) -> None:
        await self._hub.stop()
        await self.engine.close()

    def job(self, prompt: str = "Once upon a time there was a fox who", **more: Any) -> Job:
        return Job(
            request_id=f"job-{next(self._numbers)}",
            attempt=1,
            model=self.loaded.model,
            quantization=self.loaded.quantization,
            prompt=prompt,
            sampling=more.pop("sampling", GREEDY),
            **more,
        )

    def chat(self, question: str = "What is the capital of France?", **more: Any) -> Job:
        return replace(self.job("", **more), messages=(ChatMessage(role="user", content=question),))

    async def submit(self, job: Job) -> Run:
        run = Run(job=job)
        self._runs[job.request_id, job.attempt] = run
        run.accepted = await self.engine.submit(job)
        return run

    async def run(self, job: Job) -> Run:
        return await (await self.submit(job)).end()

    async def holds(self, blocks: tuple[int, ...]) -> None:
        """Wait until the engine has said that it holds these text blocks."""
        await until_changed(self._stepped, lambda: self.cached.issuperset(blocks), within_s=ENDS_WITHIN_S)

    async def idle(self) -> Load:
        """The load once nothing runs; engines may need a step to notice."""

        def found() -> Load | None:
            figures = self.engine.load_figures()
            return None if figures.running or figures.waiting else figures

        figures: Load = await until_async(found, "the engine is idle", within_s=ENDS_WITHIN_S)
        return figures


async def _serve(name: str, spec: ModelSpec) -> AsyncIterator[Rig]:
    rig = Rig(name, make_engine(name), spec)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()
        assert all(len(run.finals) == 1 for run in rig._runs.values() if run.accepted is not None)


@contextlib.asynccontextmanager
async def llama_cpp(model: Path) -> AsyncIterator[Rig]:
    spec = ModelSpec(
        name="smollm2-135m", path=str(model), context_tokens=CONTEXT_TOKENS, slots=SLOTS, options={"threads": 1}
    )
    async for rig in _serve("llama.cpp", spec):
        yield rig


@contextlib.asynccontextmanager
async def simulated(_: Path | None) -> AsyncIterator[Rig]:
    spec = ModelSpec(name="sim", path="h100-sxm", quantization="awq", context_tokens=CONTEXT_TOKENS, slots=SLOTS)
    async for rig in _serve("simulated", spec):
        yield rig


@contextlib.asynccontextmanager
async def openai(model: Path) -> AsyncIterator[Rig]:
    with third_party_server(model, context_tokens=CONTEXT_TOKENS, slots=SLOTS) as url:
        async for rig in _serve("openai", ModelSpec(name="smollm2-135m", path=url)):
            yield rig


@contextlib.asynccontextmanager
async def vllm(model: Path) -> AsyncIterator[Rig]:
    method = os.environ.get(SPECULATE, "")
    options = {"speculate": method} if method else {}
    spec = ModelSpec(
        name="smollm2-135m", path=str(model), context_tokens=CONTEXT_TOKENS, slots=SLOTS, options=options
    )  # fmt: skip
    async for rig in _serve("vllm", spec):
        yield rig


@contextlib.asynccontextmanager
async def toy(model: Path) -> AsyncIterator[Rig]:
    spec = ModelSpec(name="letters", path=str(model), context_tokens=CONTEXT_TOKENS, slots=SLOTS)
    with toy_engine():
        async for rig in _serve("toy", spec):
            yield rig


@dataclass(frozen=True, slots=True, kw_only=True)
class Bringup:
    """One row of the matrix."""

    make: Callable[[Path], AbstractAsyncContextManager[Rig]]
    needs: str  # the fixture that gives its model's path; empty: none
    marks: tuple[pytest.MarkDecorator, ...] = ()
    elsewhere: tuple[str, str] = ("", "")  # a module that only another environment has, and the command that runs it
    kept: bool = False  # takes long to start: one for all tests, until one of them unloads it


BRINGUPS: dict[str, Bringup] = {
    "llama.cpp": Bringup(
        make=llama_cpp,
        needs="q8_0_file",
        marks=(pytest.mark.model,),
    ),
    "simulated": Bringup(make=simulated, needs=""),
    "toy": Bringup(make=toy, needs="toy_file"),
    "openai": Bringup(make=openai, needs="q8_0_file", marks=(pytest.mark.model,)),
    "vllm": Bringup(
        make=vllm,
        elsewhere=("vllm", "make test-vllm"),
        needs="awq_folder",
        marks=(pytest.mark.vllm, pytest.mark.timeout(600)),
        kept=True,
    ),
}


def run_elsewhere(name: str) -> str:
    """The command that runs this engine's tests, when its environment is not this one; empty: they run here."""
    module, command = BRINGUPS[name].elsewhere
    return command if module and importlib.util.find_spec(module) is None else ""


def ended_well(run: Run) -> bool:
    return run.final.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
