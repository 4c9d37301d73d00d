"""Three ways to run one GGUF file on one thread: our engine, the high-level class, llama.cpp's own server."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psutil

from loadtest.peers.llama_server import server_process
from protos.contract.ids import RequestId
from protos.contract.request import Job, Sampling
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.engine import LlamaCppEngine

OUTPUT_TOKENS = 128
CONTEXT_TOKENS = 1024
DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Wave:
    """Requests that start together: how long until the last one ended, the processor's seconds of whoever computed
    them, and each one's time to its first token.
    """

    seconds: float
    output_tokens: int
    cpu_s: float
    ttft_s: tuple[float, ...] = ()

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all requests over the wall time of the wave, prefill included."""
        return self.output_tokens / self.seconds

    @property
    def tokens_per_cpu_s(self) -> float:
        """The same over processor time: what others do on the machine hardly touches it."""
        return self.output_tokens / self.cpu_s


class OurEngine:
    """One loaded model; waves run one after the other."""

    def __init__(self, model: Path, slots: int, *, exact: bool = False) -> None:
        self._spec = ModelSpec(
            name="bench",
            path=str(model),
            context_tokens=CONTEXT_TOKENS,
            slots=slots,
            options={"threads": 1, "exact": exact},
        )
        self._engine = LlamaCppEngine()
        self._firsts: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._begun: dict[str, asyncio.Event] = {}
        self._quantization = ""
        self._number = 0

    async def __aenter__(self) -> Self:
        loaded = await self._engine.load(self._spec, lambda _fraction, _message: None)
        self._quantization = loaded.quantization
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._engine.close()

    async def wave(self, prompts: Sequence[str]) -> Wave:
        """All prompts at once, to their last token."""
        started, cpu = time.perf_counter(), time.process_time()
        names = [await self.submit(prompt) for prompt in prompts]
        await asyncio.gather(*(self._ended[name].wait() for name in names))
        seconds = time.perf_counter() - started
        return Wave(
            seconds,
            sum(self._counts[name] for name in names),
            time.process_time() - cpu,
            tuple(self._firsts[name] - started for name in names),
        )

    async def submit(self, prompt: str, tokens: int = OUTPUT_TOKENS) -> str:
        """Start one request; returns its name."""
        self._number += 1
        name = f"r{self._number}"
        self._ended[name], self._begun[name] = asyncio.Event(), asyncio.Event()
        sampling = Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        job = Job(
            request_id=RequestId(name),
            attempt=1,
            model="bench",
            quantization=self._quantization,
            prompt=prompt,
            sampling=sampling,
        )
        await self._engine.submit(job)
        return name

    async def first_token(self, prompt: str, tokens: int = OUTPUT_TOKENS) -> tuple[float, str]:
        """Seconds to the first token of a request that then goes on running, and its name."""
        started = time.perf_counter()
        name = await self.submit(prompt, tokens)
        await self._begun[name].wait()
        return self._firsts[name] - started, name

    async def end(self, name: str) -> None:
        """Wait for one request's last token."""
        await self._ended[name].wait()

    async def _read(self) -> None:
        async for result in self._engine.steps():
            now = time.perf_counter()
            for delta in result.deltas:
                name = delta.request_id
                if delta.token_count and name not in self._firsts:
                    self._firsts[name] = now
                    self._begun[name].set()
                self._counts[name] = self._counts.get(name, 0) + delta.token_count
                if delta.finish_reason is not None:
                    self._ended[name].set()


def high_level(model: Path, prompts: Sequence[str]) -> Wave:
    """llama-cpp-python's ``Llama`` class, one prompt after the other; loading is not timed."""
    import llama_cpp

    llama = llama_cpp.Llama(
        str(model), n_ctx=CONTEXT_TOKENS, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False
    )
    started, cpu = time.perf_counter(), time.process_time()
    produced = 0
    for prompt in prompts:
        llama.reset()
        stream = llama.generate(llama.tokenize(prompt.encode()), temp=0.0, repeat_penalty=1.0)
        for _ in range(OUTPUT_TOKENS):
            llama.detokenize([next(stream)])
            produced += 1
        stream.close()
    wave = Wave(time.perf_counter() - started, produced, time.process_time() - cpu)
    llama.close()
    return wave


async def own_server(model: Path, prompts: Sequence[str], *, unified: bool = False) -> Wave:
    """llama.cpp's server with as many slots as prompts, asked over its native endpoint without streaming.

    ``unified``: with one KV cache for all of them, instead of one each.
    """
    with server_process(model, context_tokens=CONTEXT_TOKENS, slots=len(prompts), unified=unified) as (process, url):
        root = url.removesuffix("/v1")
        watched = psutil.Process(process.pid)
        async with httpx.AsyncClient(timeout=DEADLINE_S, limits=httpx.Limits(max_connections=64)) as client:

            async def ask(prompt: str) -> int:
                body = {"prompt": prompt, "n_predict": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True}
                reply = await client.post(f"{root}/completion", json={**body, "cache_prompt": False})
                reply.raise_for_status()
                return int(reply.json()["tokens_predicted"])

            started, cpu = time.perf_counter(), _cpu_s(watched)
            counts = await asyncio.gather(*(ask(prompt) for prompt in prompts))
            return Wave(time.perf_counter() - started, sum(counts), _cpu_s(watched) - cpu)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
