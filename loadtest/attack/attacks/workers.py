"""As a worker on an open pool: what it says at the door, in the session, and as an answer."""

import asyncio
import contextlib
import itertools
import json
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from typing import Self

import aiohttp

from loadtest.attack.attacks.rogue import MODEL, Answer, Rogue, hello, over_and_over
from loadtest.attack.target import Attack, Run, Target
from loadtest.chaos.faults.silent_proxy import SilentProxy
from protos.allsorts.v1 import fleet_pb2 as pb

SESSIONS = 6
LOG_KB = 2048.0
"""What a flood may write into the router's log."""


def _name() -> str:
    return f"rogue-{uuid.uuid4().hex[:12]}"


async def _many(target: Target, one: Run) -> dict[str, float]:
    found = await asyncio.gather(*(one(target) for _ in range(SESSIONS)))
    return {name: sum(each[name] for each in found) for name in found[0]}


async def _wait(rogue: Rogue) -> AsyncGenerator[None]:
    while not rogue.ended.is_set():
        await asyncio.sleep(0.02)
        yield


async def _fat_hello(target: Target) -> dict[str, float]:
    async def one(target: Target) -> dict[str, float]:
        sizes = itertools.cycle((13_500_000, 1_000_000))

        def make() -> Rogue:
            return Rogue(target.grpc_port, hello(_name(), models=250, padding=next(sizes)))

        async def speak(_: Rogue) -> AsyncGenerator[None]:
            await asyncio.sleep(0.1)
            yield

        return await over_and_over(target.seconds, make, speak)

    return await _many(target, one)


async def _claimed_context(target: Target) -> dict[str, float]:
    return await over_and_over(
        target.seconds, lambda: Rogue(target.grpc_port, hello(_name(), context_tokens=2**31 - 1)), _wait
    )


async def _flood(target: Target, *events: pb.WorkerEvent | bytes) -> dict[str, float]:
    async def speak(rogue: Rogue) -> AsyncGenerator[None]:
        for event in itertools.cycle(events):
            if not await rogue.say(event):
                return
            yield

    return await over_and_over(target.seconds, lambda: Rogue(target.grpc_port, hello(_name())), speak)


async def _drain_and_awake(target: Target) -> dict[str, float]:
    drain = pb.WorkerEvent(leaving=pb.Leaving(kind=pb.LEAVING_KIND_DRAINING, reason="x" * 4000))
    awake = pb.WorkerEvent(leaving=pb.Leaving(kind=pb.LEAVING_KIND_AWAKE))
    return await _flood(target, drain, awake)


async def _blocks(target: Target) -> dict[str, float]:
    """A million blocks, then gone; over and over."""

    async def speak(rogue: Rogue) -> AsyncGenerator[None]:
        for start in range(0, 1_000_000, 65_536):
            stored = range(start, start + 65_536)
            if not await rogue.say(
                pb.WorkerEvent(cache=pb.CacheEvents(model=MODEL, quantization="q8_0", stored=stored))
            ):
                return
            yield

    return await over_and_over(target.seconds, lambda: Rogue(target.grpc_port, hello(_name())), speak)


async def _strays(target: Target) -> dict[str, float]:
    step = pb.Step(deltas=[pb.Delta(request_id="nobody", attempt=1)] * 200_000)
    return await _flood(target, pb.WorkerEvent(step=step))


async def _strays_a_few(target: Target) -> dict[str, float]:
    """In events that are small enough to be read as they are."""
    plain = pb.PlainDeltas(request_ids=["nobody"] * 64, attempts=[1] * 64, positions=[0] * 64, texts=["x"] * 64)
    plain.token_counts.extend([1] * 64)
    plain.text_tokens.extend([1] * 64)
    plain.id_counts.extend([0] * 64)
    one = pb.WorkerEvent(accepted=pb.Accepted(request_id="nobody", attempt=1))
    accepted = pb.WorkerEvent(accepted=one.accepted, following=[one] * 64)
    return await _flood(target, pb.WorkerEvent(step=pb.Step(plain=plain)), accepted)


async def _empties(target: Target) -> dict[str, float]:
    """Two bytes each that become hundreds in memory: four million to an event, in one list and in another."""
    count = 4 * 2**20 - 16
    deltas, following, models = (bytes((number << 3 | 2, 0)) * count for number in (1, 15, 6))
    floods = (_within(2, deltas), following, _within(1, models), _within(2, _within(1, b"\x4a\0" * (count - 8))))
    return await _flood(target, *floods)


def _within(number: int, content: bytes) -> bytes:
    """As the field ``number`` of a message."""
    size, left = bytearray(), len(content)
    while left > 127:
        size.append(left & 127 | 128)
        left >>= 7
    return bytes((number << 3 | 2, *size, left)) + content


async def _models(target: Target) -> dict[str, float]:
    states = (pb.MODEL_STATE_LOADING, pb.MODEL_STATE_BENCHMARKING, pb.MODEL_STATE_READY, pb.MODEL_STATE_FAILED)
    models = [pb.ModelInstance(model=f"m{n}", quantization="q", state=states[n % 4]) for n in range(250)]
    return await _flood(target, *(pb.WorkerEvent(model_progress=pb.ModelProgress(model=one)) for one in models))


def _fat_answer(generate: pb.Generate) -> Iterator[pb.WorkerEvent]:
    request_id, attempt = generate.request_id, generate.attempt
    yield pb.WorkerEvent(accepted=pb.Accepted(prompt_tokens=1, request_id=request_id, attempt=attempt))
    text = "x" * (1000 * 1024)
    for position in itertools.count(0, 1024):
        delta = pb.Delta(
            position=position,
            text=text,
            token_count=1024,
            text_tokens=position + 1024,
            request_id=request_id,
            attempt=attempt,
        )
        yield pb.WorkerEvent(step=pb.Step(deltas=[delta]))


def _lying_answer(generate: pb.Generate) -> Iterator[pb.WorkerEvent]:
    request_id, attempt = generate.request_id, generate.attempt
    yield pb.WorkerEvent(
        accepted=pb.Accepted(
            prompt_tokens=4_000_000_000, cached_tokens=4_000_000_000, request_id=request_id, attempt=attempt
        )
    )
    usage = pb.Usage(prompt_tokens=4_000_000_000, completion_tokens=1, cached_tokens=4_000_000_000)
    end = pb.Delta(
        text="hi",
        token_count=1,
        text_tokens=1,
        finish_reason=pb.FINISH_REASON_STOP,
        usage=usage,
        request_id=request_id,
        attempt=attempt,
    )
    yield pb.WorkerEvent(step=pb.Step(deltas=[end]))


async def _answers(target: Target, answer: Answer, *, clients: int, read: bool) -> dict[str, float]:
    """A worker and its clients: what those are charged for and get."""
    saw = {"answers": 0.0, "most tokens charged": 0.0, "MB of answers": 0.0}
    until = time.monotonic() + target.seconds

    async def client(session: aiohttp.ClientSession) -> None:
        asked = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True},
                 "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
        while time.monotonic() < until:
            try:
                async with session.post(f"http://127.0.0.1:{target.port}/v1/chat/completions", json=asked) as reply:
                    if not read:
                        await asyncio.sleep(max(0.0, until - time.monotonic()))
                        return
                    async for line in reply.content:
                        saw["MB of answers"] += len(line) / 2**20
                        if line.startswith(b"data: {") and (usage := json.loads(line[6:]).get("usage")):
                            saw["most tokens charged"] = max(saw["most tokens charged"], usage["total_tokens"])
                    saw["answers"] += 1
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.05)

    async def worker() -> None:
        while time.monotonic() < until:
            async with Rogue(target.grpc_port, hello(_name()), answer) as rogue:
                async for _ in _wait(rogue):
                    if time.monotonic() > until:
                        return

    timeout = aiohttp.ClientTimeout(total=target.seconds + 5)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**22) as session:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(target.seconds + 1.0):
                await asyncio.gather(worker(), *(client(session) for _ in range(clients)))
    return saw


async def _fat_answers(target: Target) -> dict[str, float]:
    return await _answers(target, _fat_answer, clients=8, read=False)


async def _fat_answers_read(target: Target) -> dict[str, float]:
    return await _answers(target, _fat_answer, clients=2, read=True)


async def _lies(target: Target) -> dict[str, float]:
    return await _answers(target, _lying_answer, clients=2, read=True)


def _poison(generate: pb.Generate) -> Iterator[pb.WorkerEvent]:
    """Accepts, says a word that is no answer, and no more."""
    request_id, attempt = generate.request_id, generate.attempt
    yield pb.WorkerEvent(accepted=pb.Accepted(prompt_tokens=1, request_id=request_id, attempt=attempt))
    word = pb.Delta(text="poison", token_count=1, text_tokens=1, request_id=request_id, attempt=attempt)
    yield pb.WorkerEvent(step=pb.Step(deltas=[word]))


async def _poisoned(target: Target) -> dict[str, float]:
    """Three workers that announce the honest ones' model, at a thousand times its speed."""
    asked = 0

    def answer(generate: pb.Generate) -> Iterator[pb.WorkerEvent]:
        nonlocal asked
        asked += 1
        return _poison(generate)

    def first() -> pb.WorkerEvent:
        event = hello(_name(), context_tokens=8192)
        event.hello.models[0].model = target.model
        return event

    async def one(target: Target) -> dict[str, float]:
        return await over_and_over(target.seconds, lambda: Rogue(target.grpc_port, first(), answer), _wait)

    found = await asyncio.gather(*(one(target) for _ in range(3)))
    return {"sessions": sum(each["sessions"] for each in found), "prompts drawn": asked}


async def _lost_packets(target: Target) -> dict[str, float]:
    """Workers behind a network that swallows everything after a second, and heals, over and over."""
    saw = {"cuts": 0.0}
    async with SilentNetwork(target.grpc_port) as network:

        async def cuts() -> None:
            while True:
                await asyncio.sleep(1.0)
                network.cut()
                saw["cuts"] += 1
                await asyncio.sleep(3.0)
                network.heal()

        cutting = asyncio.create_task(cuts())

        async def one(target: Target) -> dict[str, float]:
            return await over_and_over(target.seconds, lambda: Rogue(network.port, hello(_name())), _wait)

        try:
            found = await asyncio.gather(*(one(target) for _ in range(20)))
        finally:
            cutting.cancel()
    return {**saw, "sessions": sum(each["sessions"] for each in found)}


class SilentNetwork(SilentProxy):
    """As a context."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _believed(saw: dict[str, float]) -> list[str]:
    charged = saw.get("most tokens charged", 0.0)
    return [f"a client was charged for {charged:.0f} tokens"] if charged > 100_000 else []


WORKERS = (
    Attack(name="hellos of megabytes", run=_fat_hello, quick=True),
    Attack(name="a context of 2^31 tokens", run=_claimed_context),
    Attack(name="answers nobody reads", run=_fat_answers, quick=True),
    Attack(name="answers of megabytes", run=_fat_answers_read),
    Attack(name="counts that cannot be", run=_lies, after=_believed),
    Attack(name="drain and awake in turn", run=_drain_and_awake, log_kb=LOG_KB, quick=True),
    Attack(name="a million blocks, then gone", run=_blocks),
    Attack(name="a model poisoned", run=_poisoned),
    Attack(name="workers whose packets are lost", run=_lost_packets, log_kb=LOG_KB),
    Attack(name="200,000 stray deltas", run=_strays, log_kb=LOG_KB),
    Attack(name="stray events, a few at a time", run=_strays_a_few, log_kb=LOG_KB),
    Attack(name="events of empty messages", run=_empties, log_kb=LOG_KB),
    Attack(name="models that change for ever", run=_models, log_kb=LOG_KB),
)
