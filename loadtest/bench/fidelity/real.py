"""The real worker of ``bench-simfidelity``: llama.cpp in process, measured by the join benchmark, then loaded."""

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from loadtest.bench.fidelity.load import Request
from protos.contract.ids import RequestId
from protos.contract.request import Job, Sampling
from protos.contract.worker import Hardware, ModelInstance
from workers.benchmark.join_benchmark import JoinBenchmark
from workers.benchmark.measured_speed import MeasuredSpeed
from workers.benchmark.plan import Effort
from workers.engines.base import ModelSpec, StepResult
from workers.engines.llama_cpp.engine import LlamaCppEngine
from workers.engines.step_reader import StepReader

SLOTS = 16
CONTEXT_TOKENS = 1024
FIRST_ID, LAST_ID = 1000, 30_000
"""Prompts are random ids between: plain tokens of any vocabulary, and no prefix is found in a slot."""
DEADLINE_S = 300.0


class RealWorker:
    """One loaded model, one thread. Runs one load at a time."""

    def __init__(self, model: Path, hardware: Hardware) -> None:
        self._spec = ModelSpec(
            name="fidelity", path=str(model), context_tokens=CONTEXT_TOKENS, slots=SLOTS, options={"threads": 1}
        )
        self._engine = LlamaCppEngine()
        self._hub = StepReader(self._engine, self._fail)
        self._measure = JoinBenchmark(hardware, Effort.FULL, None)
        self._dice = random.Random()
        self._firsts: dict[str, float] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._tokens = 0
        self._number = 0
        self._failure = ""
        self.loaded: ModelInstance

    async def __aenter__(self) -> Self:
        self._hub.start()
        self._hub.add(self._hear)
        self.loaded = await self._engine.load(self._spec, lambda _fraction, _message: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._hub.stop()
        await self._engine.close()

    async def profile(self) -> MeasuredSpeed:
        """The join benchmark, as at any join. Raises RuntimeError when it could not measure."""
        speed = await self._measure(self._engine, self._hub, self.loaded, self._spec)
        if speed is None:
            raise RuntimeError("the join benchmark could not measure the model")
        return speed

    async def open(self, requests: Sequence[Request]) -> list[float]:
        """Seconds from each request's arrival to its first token, in their order; nobody waits for an answer."""
        started = time.perf_counter()
        names = []
        for request in requests:
            await asyncio.sleep(started + request.at_s - time.perf_counter())
            names.append(await self._submit(request))
        async with asyncio.timeout(DEADLINE_S):
            for name in names:
                await self._ended[name].wait()
        arrivals = (started + request.at_s for request in requests)
        firsts = [self._firsts[name] - at for name, at in zip(names, arrivals, strict=True)]
        self._forget()
        return firsts

    async def closed(self, requests: Iterable[Request], streams: int, *, warm_s: float, seconds: float) -> float:
        """Output tokens a second between ``warm_s`` and ``seconds``, each stream asking again when it is answered."""
        queue = iter(requests)

        async def stream() -> None:
            while True:
                await self._ended[await self._submit(next(queue))].wait()

        started = time.perf_counter()
        asking = [asyncio.create_task(stream()) for _ in range(streams)]
        marks = []
        for mark_s in (warm_s, seconds):
            await asyncio.sleep(started + mark_s - time.perf_counter())
            marks.append((time.perf_counter(), self._tokens))
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._clear()
        (began, before), (ended, after) = marks
        return (after - before) / (ended - began)

    # ------------------------------------------------------------ inside

    async def _submit(self, request: Request) -> str:
        if self._failure:
            raise RuntimeError(f"the engine died: {self._failure}")
        self._number += 1
        name = f"fidelity-{self._number}"
        self._ended[name] = asyncio.Event()
        job = Job(
            request_id=RequestId(name),
            attempt=1,
            model=self.loaded.model,
            quantization=self.loaded.quantization,
            prompt=tuple(self._dice.randint(FIRST_ID, LAST_ID) for _ in range(request.prompt_tokens)),
            sampling=Sampling(temperature=0.0, max_tokens=request.output_tokens, ignore_eos=True),
        )
        await self._engine.submit(job)
        return name

    def _hear(self, result: StepResult) -> None:
        now = time.perf_counter()
        for delta in result.deltas:
            ended = self._ended.get(delta.request_id)
            if ended is None:
                continue  # the benchmark's own
            self._tokens += delta.token_count
            if delta.token_count:
                self._firsts.setdefault(delta.request_id, now)
            if delta.finish_reason is not None:
                ended.set()

    async def _clear(self) -> None:
        """Abort what still runs and wait until it ended."""
        for name, ended in self._ended.items():
            if not ended.is_set():
                self._engine.abort(name, 1)
        async with asyncio.timeout(DEADLINE_S):
            for ended in self._ended.values():
                await ended.wait()
        self._forget()

    def _forget(self) -> None:
        self._firsts.clear()
        self._ended.clear()

    def _fail(self, reason: str) -> None:
        self._failure = reason
        for ended in self._ended.values():
            ended.set()
