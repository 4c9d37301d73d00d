"""A hostile worker over a real session: whatever it sends, it loses its own session and nothing else.

Frames go over a real gRPC connection to the real FleetService. A good worker is connected all the while: its stream
must not be touched, and the server must answer a newcomer afterwards.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.ids import WorkerId
from router.domain.stream import AttemptEvent
from router.sessions.listeners import SESSION_MESSAGE_BYTES
from tests.support.tls_pool import Head, head
from tests.support.until import WITHIN_S, until_async

METHOD = "/allsorts.v1.Fleet/Session"
CLIENTS_OWN = ("_AioCall.", "_Stream", "StreamStreamCall.")
ATTACK_S = 10.0
SETTLE_S = 30.0

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
words = st.text(st.characters(codec="utf-8"), max_size=40)
request_ids = st.sampled_from(["good", "mine", ""]) | words

loads = st.builds(
    pb.Load, running=u32, waiting=u32, prefill_tokens_pending=u64, context_tokens=u64, expected_remaining_tokens=u64,
    kv_used=floats, step_sequence=u64, last_command=u64, last_step_s=floats, tokens_per_s=floats,
)  # fmt: skip
deltas = st.builds(
    pb.Delta, request_id=request_ids, attempt=u32, position=u32, text=words, token_ids=st.lists(u32, max_size=5),
    token_count=u32, text_tokens=u32, finish_reason=st.integers(0, 9),
)  # fmt: skip
speeds = st.builds(
    pb.Speed, base_s=floats, per_sequence_s=floats, per_context_token_s=floats, prefill_tokens_per_s=floats
)
instances = st.builds(
    pb.ModelInstance, model=words, quantization=words, bits_per_weight=floats, weights_bytes=u64, context_tokens=u32,
    slots=u32, kv_capacity_tokens=u64, state=st.integers(0, 9), speed=speeds,
)  # fmt: skip
profiles = st.builds(
    pb.Profile, node=words, engine=words, labels=st.dictionaries(words, words, max_size=4),
    hardware=st.builds(pb.Hardware, kind=words, name=words, count=u32, memory_bytes=u64, bandwidth_bytes_per_s=floats),
)  # fmt: skip
hellos = st.builds(
    pb.Hello, protocol_version=u32, oldest_protocol_version=u32,
    worker_id=st.sampled_from(["evil", "good", ""]) | words, incarnation=words, profile=profiles,
    models=st.lists(instances, max_size=3), load=loads,
)  # fmt: skip
events = st.one_of(
    st.builds(lambda d, now: pb.WorkerEvent(step=pb.Step(deltas=d, load=now)), st.lists(deltas, max_size=6), loads),
    st.builds(lambda h: pb.WorkerEvent(hello=h), hellos),
    st.builds(lambda i, f: pb.WorkerEvent(model_progress=pb.ModelProgress(model=i, fraction=f)), instances, floats),
    st.builds(lambda k, r: pb.WorkerEvent(leaving=pb.Leaving(kind=k, reason=r)), st.integers(0, 9), words),
    st.builds(
        lambda r, a, c: pb.WorkerEvent(refusal=pb.Refusal(request_id=r, attempt=a, code=c)),
        request_ids, u32, st.integers(0, 12),
    ),
    st.builds(lambda r, a: pb.WorkerEvent(accepted=pb.Accepted(request_id=r, attempt=a)), request_ids, u32),
    st.builds(lambda r, a: pb.WorkerEvent(returned=pb.Returned(request_id=r, attempt=a)), request_ids, u32),
    st.builds(
        lambda m, s: pb.WorkerEvent(cache=pb.CacheEvents(model=m, stored=s, cleared=True)),
        words, st.lists(u64, max_size=5),
    ),
    st.builds(lambda s: pb.WorkerEvent(pong=pb.Pong(sequence=s)), u64),
    st.builds(lambda r: pb.WorkerEvent(score=pb.ScoreResult(request_id=r, logprobs=[0.5])), request_ids),
    st.just(pb.WorkerEvent()),
)  # fmt: skip
frames = st.lists(st.binary(max_size=200) | events.map(lambda one: one.SerializeToString()), min_size=1, max_size=12)
first_frames = st.one_of(
    st.builds(lambda h: pb.WorkerEvent(hello=h).SerializeToString(), hellos),
    st.just(pb.WorkerEvent(hello=pb.Hello(protocol_version=1, worker_id="evil")).SerializeToString()),
    st.binary(max_size=200),
)


class GoodWorker:
    """Says hello, answers pings, and has one request open."""

    def __init__(self, pool: Head) -> None:
        self._pool = pool
        self._channel = grpc.aio.insecure_channel(pool.session_address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._call: Any = FleetStub(self._channel).Session()
        self.heard: list[AttemptEvent] = []
        self.another = asyncio.Event()

    async def start(self) -> None:
        await self._call.write(pb.WorkerEvent(hello=pb.Hello(protocol_version=1, worker_id="good")))
        assert (await self._call.read()).WhichOneof("command") == "welcome"
        session = self._pool.membership.session_of(WorkerId("good"))
        assert session is not None
        self.session = session
        session.open(("good", 1), self._hear)

    def _hear(self, event: AttemptEvent) -> None:
        self.heard.append(event)
        self.another.set()

    async def speaks(self) -> None:
        """Its next delta arrives, alone and unharmed."""
        self.heard.clear()
        self.another.clear()
        step = pb.Step(deltas=[pb.Delta(request_id="good", attempt=1, text="x", token_count=1)])
        await self._call.write(pb.WorkerEvent(step=step))
        await asyncio.wait_for(self.another.wait(), WITHIN_S)
        assert [getattr(one, "text", one) for one in self.heard] == ["x"]

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()


@contextlib.asynccontextmanager
async def rig(state_dir: Path) -> AsyncIterator[tuple[Head, GoodWorker]]:
    # an id is its certificate's in a TLS pool; on plain loopback "good" would be anyone's: hold it by revoking nobody,
    # and let attackers who claim it be told apart below
    async with head(state_dir, tls=False, max_workers=64, ping_interval_s=60.0, silence_s=600.0) as pool:
        good = GoodWorker(pool)
        await good.start()
        try:
            yield pool, good
        finally:
            await good.close()


async def attack(pool: Head, frames: list[bytes]) -> grpc.StatusCode | None:
    """Send raw frames as fast as they go; read until the router has had enough, or everything was taken. Returns how
    the router ended it; None when it did not.
    """
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(pool.session_address, options=options) as channel:
        raw = channel.stream_stream(METHOD)
        call = raw(timeout=ATTACK_S)  # grpc.aio's own client may wait for ever when its write fails as the call ends
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for frame in frames:
                await call.write(frame)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
        ended = await call.code() if call.done() else None
        call.cancel()
    return ended


async def attacker_ends(before: set[asyncio.Task[Any]]) -> None:
    """With what its client still waits for: that may be for ever, too."""
    left = [task for task in asyncio.all_tasks() - before if what_runs(task).startswith(CLIENTS_OWN)]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def what_runs(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", task))


def running() -> Counter[str]:
    """Tasks by what they run (the server's own are replaced, not more), but for those of the attacker's client."""
    return Counter(name for name in map(what_runs, asyncio.all_tasks()) if not name.startswith(CLIENTS_OWN))


async def nothing_is_left_but(good: GoodWorker, pool: Head, before: Counter[str]) -> None:
    """The attacker's session is gone, and every task, open attempt and claim that it caused."""
    await until_async(
        lambda: pool.service._sessions == {good.session} and not running() - before,
        lambda: (len(pool.service._sessions), running() - before),
        within_s=SETTLE_S,
        every_s=0.005,
    )
    assert good.session.open_attempts == 1
    for view in pool.membership.snapshot().workers:
        member = pool.membership.member(view.worker_id)
        assert member is not None
        assert bool(member.session_id) is (view.worker_id == "good"), view
        assert view.inflight.requests == 0


def claims_to_be_good(frame: bytes) -> bool:
    """On plain loopback every process of this machine may claim any id; with TLS the certificate decides (tested in
    ``tests/integration/test_tls_join.py``). Such a hello replaces the session, as a restarted worker's must.
    """
    with contextlib.suppress(Exception):
        return bool(pb.WorkerEvent.FromString(frame).hello.worker_id == "good")
    return False


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=first_frames, rest=frames)
def test_garbage_frames_cost_the_sender_its_session_and_nobody_else(
    first: bytes, rest: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Random bytes and well-formed nonsense: the good worker's stream is untouched, the server goes on."""
    if claims_to_be_good(first):
        return

    async def scene() -> None:
        async with rig(tmp_path_factory.mktemp("state")) as (pool, good):
            before, tasks = running(), asyncio.all_tasks()
            async with asyncio.timeout(60):
                await attack(pool, [first, *rest])
            await nothing_is_left_but(good, pool, before)
            await attacker_ends(tasks)
            await good.speaks()
            assert pool.membership.session_of(WorkerId("good")) is good.session

    asyncio.run(scene())


async def test_deltas_for_anothers_request_reach_nobody_and_a_flood_of_them_ends_the_session(tmp_path: Path) -> None:
    """Attempts belong to sessions; strays are counted."""
    hello = pb.WorkerEvent(hello=pb.Hello(protocol_version=1, worker_id="evil")).SerializeToString()
    forged = pb.Delta(request_id="good", attempt=1, text="evil", token_count=1)
    flood = pb.WorkerEvent(step=pb.Step(deltas=[forged] * 5000)).SerializeToString()
    async with rig(tmp_path) as (pool, good):
        await attack(pool, [hello, *([flood] * 6)])
        assert good.heard == []
        await good.speaks()
        assert pool.membership.session_of(WorkerId("evil")) is None


async def test_an_oversized_message_ends_the_session(tmp_path: Path) -> None:
    """The limit is the listener's; the memory is never taken."""
    hello = pb.WorkerEvent(hello=pb.Hello(protocol_version=1, worker_id="evil")).SerializeToString()
    huge = pb.WorkerEvent(leaving=pb.Leaving(reason="x" * (SESSION_MESSAGE_BYTES + 1))).SerializeToString()
    async with rig(tmp_path) as (pool, good):
        assert await attack(pool, [hello, huge]) is grpc.StatusCode.RESOURCE_EXHAUSTED
        await good.speaks()
        await pool.changes_until(lambda: pool.membership.session_of(WorkerId("evil")) is None)


async def test_an_absurd_profile_is_refused_or_bounded(tmp_path: Path) -> None:
    """A hundred thousand models and labels do not enter the fleet table."""
    hello = pb.Hello(protocol_version=1, worker_id="evil")
    hello.profile.node = "x" * 100_000
    hello.models.extend(pb.ModelInstance(model=f"m{n}", quantization="q", context_tokens=1) for n in range(100_000))
    async with rig(tmp_path) as (pool, good):
        await attack(pool, [pb.WorkerEvent(hello=hello).SerializeToString()])
        await good.speaks()
        member = pool.membership.member(WorkerId("evil"))
        assert member is None or (len(member.models) <= 1000 and len(member.profile.node) <= 200)
        assert len(pool.membership.known_models()) <= 1000
