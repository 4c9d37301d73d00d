"""Who comes to a session's door: the gate comes first, then a hello within its bounds."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.ids import WorkerId
from protos.contract.joining.versions import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, own_version
from protos.contract.validation import MAX_MODELS, OutOfBounds
from router.config import FleetConfig
from router.domain.clock import SystemClock
from router.domain.ids import ReplicaId
from router.errors import NotAllowed
from router.fleet.membership import Membership
from router.scheduling.claims import Claims
from router.sessions.service import HELLO_BYTES, FleetService
from router.trust.session_authorizer import Admitted


class _Gate:
    """Lets everybody in but the revoked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    async def admit(self, claimed: str, peer_worker_id: str | None) -> Admitted:
        self.asked.append((claimed, peer_worker_id))
        if "revoked" in (claimed, peer_worker_id):
            raise NotAllowed("this worker was revoked: sold")
        return Admitted(worker_id=WorkerId(peer_worker_id or claimed))


class _Ended(Exception):
    """What gRPC raises in a call that was aborted."""


class _Call:
    """A worker's call: its certificate, what it says, and how it was ended."""

    def __init__(self, *said: pb.WorkerEvent, certificate: str = "") -> None:
        self._said = list(said)
        self._certificate = certificate
        self.read_events = 0
        self.stays = False
        self.leave = asyncio.Event()
        self.written: list[pb.RouterCommand] = []
        self.status: grpc.StatusCode | None = None
        self.details = ""

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self._certificate.encode()]} if self._certificate else {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def read(self) -> Any:
        self.read_events += 1
        if not self._said and self.stays:
            await self.leave.wait()
        return self._said.pop(0).SerializeToString() if self._said else grpc.aio.EOF

    async def write(self, command: pb.RouterCommand) -> None:
        self.written.append(command)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status, self.details = code, details
        raise _Ended(details)


def service(gate: _Gate) -> tuple[FleetService, Membership]:
    clock = SystemClock()
    fleet = Membership(FleetConfig(), clock, Claims())
    made = FleetService(
        replica_id=ReplicaId("router-0"),
        membership=fleet,
        tell=lambda _: None,
        authorizer=gate,
        enroller=cast("Any", None),
        config=FleetConfig(),
        clock=clock,
    )
    return made, fleet


def hello(worker_id: str = "w", *, models: int = 1, size: int = 0) -> pb.WorkerEvent:
    """A hello; ``size`` bytes in all, if that is more than it needs."""
    event = pb.WorkerEvent()
    event.hello.worker_id = worker_id
    event.hello.protocol_version = event.hello.oldest_protocol_version = 1
    event.hello.profile.node = "n"
    for number in range(models):
        event.hello.models.add(model=f"m{number}", quantization="q8_0", error="")
    number = 0
    while size - event.ByteSize() > 0:  # what is free text may be long; each model has room for some
        room = size - event.ByteSize()
        fill = min(4000, room)
        one = event.hello.models[number % models]
        name = ("error", "lineage", "tokenizer_fingerprint", "file")[number // models]
        setattr(one, name, "x" * fill)
        over = event.ByteSize() - size
        if over > 0:
            setattr(one, name, "x" * (fill - over))
            if event.ByteSize() > size:
                setattr(one, name, "x" * (fill - over - (event.ByteSize() - size)))
            break
        number += 1
    return event


async def call(made: FleetService, one: _Call) -> None:
    try:
        async with asyncio.timeout(60):
            await made.Session(None, one)
    except _Ended:
        pass


async def test_a_revoked_certificate_is_refused_before_a_word_is_read() -> None:
    """Whatever it would have sent costs nothing."""
    gate = _Gate()
    made, fleet = service(gate)
    one = _Call(hello("revoked", models=200, size=HELLO_BYTES), certificate="revoked")
    await call(made, one)
    assert one.status is grpc.StatusCode.PERMISSION_DENIED
    assert one.read_events == 0
    assert one.written[0].dismiss.permanent
    assert fleet.member(WorkerId("revoked")) is None


async def test_without_certificates_nothing_but_the_id_is_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """On loopback the id is in the hello; the rest of it is read once the gate has opened."""

    def unread(*_: Any) -> Any:
        raise AssertionError("the hello of a worker that may not come in was read")

    monkeypatch.setattr("router.sessions.service.decode_event", unread)
    made, _ = service(_Gate())
    one = _Call(hello("revoked", models=200))
    await call(made, one)
    assert one.status is grpc.StatusCode.PERMISSION_DENIED
    assert "revoked: sold" in one.details


@pytest.mark.parametrize("size", [0, 40_000, HELLO_BYTES])
async def test_a_hello_within_its_bounds_is_served(size: int) -> None:
    """Short ones on the loop, long ones beside it."""
    made, fleet = service(_Gate())
    event = hello(models=MAX_MODELS, size=size)
    assert event.ByteSize() == size or not size
    one = _Call(event)
    await call(made, one)
    assert one.status is None
    assert one.written[0].HasField("welcome")
    member = fleet.member(WorkerId("w"))
    assert member is not None
    assert len(member.models) == MAX_MODELS


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (hello(models=MAX_MODELS, size=HELLO_BYTES + 1), f"hello has {HELLO_BYTES + 1} bytes"),
        (hello(models=MAX_MODELS + 1), f"hello names {MAX_MODELS + 1} models"),
        (pb.WorkerEvent(pong=pb.Pong(sequence=1)), "first event must be hello"),
        (pb.WorkerEvent(), "first event must be hello"),
    ],
)
async def test_a_hello_over_a_bound_is_refused_by_its_name(event: pb.WorkerEvent, names: str) -> None:
    """Nobody joins."""
    made, fleet = service(_Gate())
    one = _Call(event)
    await call(made, one)
    assert one.status is grpc.StatusCode.INVALID_ARGUMENT
    assert names in one.details
    assert fleet.member(WorkerId("w")) is None


class _Parts(Iterator[pb.WorkerEvent]):
    """Of an event that is too much."""

    def __next__(self) -> pb.WorkerEvent:
        raise OutOfBounds("too much at once")


async def test_a_session_that_ends_over_an_event_holds_it_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even until the collector comes by: it may be megabytes, and the next one follows at once."""
    held: list[weakref.ref[_Parts]] = []

    def parts(_: pb.WorkerEvent) -> _Parts:
        made = _Parts()
        held.append(weakref.ref(made))
        return made

    monkeypatch.setattr("router.sessions.service.parts_of", parts)
    made, _ = service(_Gate())
    one = _Call(hello(), pb.WorkerEvent(pong=pb.Pong(sequence=1)))
    gc.collect()
    gc.disable()
    try:
        await call(made, one)
        assert one.status is grpc.StatusCode.INVALID_ARGUMENT
        assert [each() for each in held] == [None]
    finally:
        gc.enable()


async def test_a_hello_under_another_name_than_its_certificate_is_asked_about() -> None:
    """The gate hears both."""
    gate = _Gate()
    made, _ = service(gate)
    await call(made, _Call(hello("other"), certificate="w"))
    assert gate.asked == [("", "w"), ("other", "w")]


@pytest.mark.parametrize(
    ("newest", "oldest", "agreed"),
    [(PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION),
     (PROTOCOL_VERSION + 1, PROTOCOL_VERSION, PROTOCOL_VERSION),
     (PROTOCOL_VERSION + 3, OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION),
     (PROTOCOL_VERSION - 1, PROTOCOL_VERSION - 1, PROTOCOL_VERSION - 1)],
)  # fmt: skip
async def test_a_worker_one_version_newer_goes_on(newest: int, oldest: int, agreed: int) -> None:
    """In the newest version that both speak; what this router does not know in its hello is passed over."""
    made, fleet = service(_Gate())
    event = hello()
    event.hello.protocol_version, event.hello.oldest_protocol_version = newest, oldest
    event.hello.profile.version = "99.0"
    later = pb.WorkerEvent()
    later.ParseFromString(event.SerializeToString())
    unknown = bytes([0xFA, 0x3E, 3]) + b"new"  # field 1007, three bytes
    later.hello.ParseFromString(event.hello.SerializeToString() + unknown)
    one = _Call(later)
    await call(made, one)
    assert one.status is None
    assert one.written[0].welcome.protocol_version == agreed
    assert one.written[0].welcome.version == own_version()
    member = fleet.member(WorkerId("w"))
    assert member is not None
    assert member.profile.version == "99.0"


@pytest.mark.parametrize(("newest", "oldest"), [(PROTOCOL_VERSION + 2, PROTOCOL_VERSION + 1), (0, 0)])
async def test_a_worker_that_speaks_nothing_in_common_is_told_which_is_older(newest: int, oldest: int) -> None:
    """In one line."""
    made, _ = service(_Gate())
    event = hello()
    event.hello.protocol_version, event.hello.oldest_protocol_version = newest, oldest
    one = _Call(event)
    await call(made, one)
    assert one.status is grpc.StatusCode.INVALID_ARGUMENT
    assert f"the worker speaks protocol {oldest}-{newest}" in one.details


async def test_on_an_open_pool_a_second_process_does_not_take_a_name_that_speaks() -> None:
    """The first one's streams go on; the second may come again once the first has fallen silent."""
    gate = _Gate()
    made, fleet = service(gate)
    first = hello()
    first.hello.incarnation = "one"
    call_one = _Call(first)
    call_one.stays = True
    speaking = asyncio.create_task(call(made, call_one))
    async with asyncio.timeout(60):
        while fleet.session_of(WorkerId("w")) is None:
            await asyncio.sleep(0)
    second = hello()
    second.hello.incarnation = "two"
    other = _Call(second)
    await call(made, other)
    assert "another process already serves as w" in other.details
    assert not other.written
    session = fleet.session_of(WorkerId("w"))
    assert session is not None
    again = _Call(first)  # the same process, on a new connection
    await call(made, again)
    assert again.written[0].HasField("welcome")
    call_one.leave.set()
    await speaking


async def test_a_name_that_has_fallen_silent_may_be_taken() -> None:
    """A process that hangs does not keep its successor out."""
    made, fleet = service(_Gate())
    first, second = hello(), hello()
    first.hello.incarnation, second.hello.incarnation = "one", "two"
    call_one = _Call(first)
    call_one.stays = True
    speaking = asyncio.create_task(call(made, call_one))
    async with asyncio.timeout(60):
        while fleet.session_of(WorkerId("w")) is None:
            await asyncio.sleep(0)
    session = fleet.session_of(WorkerId("w"))
    assert session is not None
    session.last_heard -= FleetConfig().silence_s + 1
    other = _Call(second)
    await call(made, other)
    assert other.written[0].HasField("welcome")
    call_one.leave.set()
    await speaking


async def test_a_certificate_says_who_is_who() -> None:
    """Its holder may replace a session of its own at any time."""
    made, fleet = service(_Gate())
    first, second = hello(), hello()
    first.hello.incarnation, second.hello.incarnation = "one", "two"
    call_one = _Call(first, certificate="w")
    call_one.stays = True
    speaking = asyncio.create_task(call(made, call_one))
    async with asyncio.timeout(60):
        while fleet.session_of(WorkerId("w")) is None:
            await asyncio.sleep(0)
    other = _Call(second, certificate="w")
    await call(made, other)
    assert other.written[0].HasField("welcome")
    call_one.leave.set()
    await speaking
