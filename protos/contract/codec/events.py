"""Worker to router: every event on the wire, and back within the bounds of ``protos.contract.validation``."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.files import HELD
from protos.contract.codec.plain_deltas import decode_plain, encode_plain
from protos.contract.codec.records import Names, Record
from protos.contract.codec.stream import ACCEPTED, REFUSAL, RETURNED, decode_delta, encode_delta
from protos.contract.codec.worker import INSTANCE, LOAD, PROFILE
from protos.contract.events import (
    CacheChange,
    DraftReport,
    FetchProgress,
    FilesHeld,
    Hello,
    Leaving,
    LeavingKind,
    ModelProgress,
    Pong,
    ScoreResult,
    Step,
    WorkerEvent,
)
from protos.contract.printable import one_line
from protos.contract.stream import Accepted, Delta, Refusal, Returned
from protos.contract.validation import (
    OutOfBounds,
    check_cache,
    check_draft,
    check_fetch,
    check_files,
    check_hello,
    check_instance,
    check_load,
)
from protos.contract.worker import Load


def _reason_in_one_line(content: dict[str, Any]) -> None:
    content["reason"] = one_line(content["reason"])


def _paused_in_one_line(content: dict[str, Any]) -> None:
    content["paused"] = one_line(content["paused"])


def _error_in_one_line(content: dict[str, Any]) -> None:
    content["error"] = one_line(content["error"])


_KINDS: dict[type, tuple[str, Record[Any, Any]]] = {
    Hello: (
        "hello",
        Record(Hello, pb.Hello, {"profile": PROFILE, "models": INSTANCE, "files": INSTANCE, "load": LOAD}),
    ),
    Accepted: ("accepted", ACCEPTED),
    Refusal: ("refusal", REFUSAL),
    Returned: ("returned", RETURNED),
    ModelProgress: ("model_progress", Record(ModelProgress, pb.ModelProgress, {"model": INSTANCE})),
    CacheChange: ("cache", Record(CacheChange, pb.CacheEvents)),
    Leaving: (
        "leaving",
        Record(
            Leaving,
            pb.Leaving,
            {"kind": Names(LeavingKind, pb.LeavingKind.DESCRIPTOR, unknown=None)},
            clean=_reason_in_one_line,
        ),
    ),
    ScoreResult: ("score", Record(ScoreResult, pb.ScoreResult)),
    Pong: ("pong", Record(Pong, pb.Pong)),
    DraftReport: ("draft", Record(DraftReport, pb.DraftReport, clean=_paused_in_one_line)),
    FilesHeld: ("files_held", Record(FilesHeld, pb.FilesHeld, {"models": HELD})),
    FetchProgress: ("fetch_progress", Record(FetchProgress, pb.FetchProgress, clean=_error_in_one_line)),
}
_RECORDS = dict(_KINDS.values())


def encode_step(deltas: Iterable[Delta], load: Load | None, *, columns: bool = False) -> pb.WorkerEvent:
    """A step: what every running request's new output was. Hot, so without a record. ``columns``: the router reads
    them; what is plain text goes so.
    """
    event = pb.WorkerEvent()
    step = event.step
    step.SetInParent()
    if columns:
        plain, deltas = _sorted_out(deltas)
        if plain:
            step.plain.MergeFrom(encode_plain(plain))
    add = step.deltas.add
    for one in deltas:
        encode_delta(one, add)
    if load is not None:
        step.load.CopyFrom(LOAD.encode(load))
    return event


def _sorted_out(deltas: Iterable[Delta]) -> tuple[list[Delta], list[Delta]]:
    """Those of plain text, and the others; a request has one delta in a step, so that their order tells nothing."""
    plain: list[Delta] = []
    others: list[Delta] = []
    for one in deltas:
        (plain if one.plain else others).append(one)
    return plain, others


def encode_event(event: WorkerEvent, following: Iterable[WorkerEvent] = ()) -> pb.WorkerEvent:
    """Any event; ``following``: others that go with it, to a router that reads them."""
    if isinstance(event, Step):
        return encode_step(event.deltas, event.load)
    name, record = _KINDS[type(event)]
    message = pb.WorkerEvent(**{name: record.encode(event)})
    if following:
        message.following.extend([encode_event(one) for one in following])
    return message


def decode_event(message: pb.WorkerEvent, received_at: float) -> WorkerEvent:
    """Any event, its load observed at ``received_at``. Raises OutOfBounds."""
    kind = message.WhichOneof("event")
    if kind == "step":
        return _step(message.step, received_at)
    if kind is None:
        raise OutOfBounds("an event of no kind that is known here")
    part = getattr(message, kind)
    _check(kind, part)
    event: WorkerEvent = _RECORDS[kind].decode(part)
    if isinstance(event, (Hello, Refusal)) and event.load is not None:
        return replace(event, load=replace(event.load, observed_at=received_at))
    return event


def _step(step: pb.Step, received_at: float) -> Step:
    load = None
    if step.HasField("load"):
        check_load(step.load)
        load = LOAD.decode(step.load, observed_at=received_at)
    deltas = decode_plain(step.plain) if step.HasField("plain") else []
    deltas += [decode_delta(one) for one in step.deltas]  # ends are here, and come after what they end
    return Step(deltas=tuple(deltas), load=load)


def _check(kind: str, part: Any) -> None:
    match kind:
        case "hello":
            check_hello(part)
        case "refusal" if part.HasField("load"):
            check_load(part.load)
        case "model_progress":
            check_instance(part.model)
        case "cache":
            check_cache(part)
        case "draft":
            check_draft(part)
        case "files_held":
            check_files(part)
        case "fetch_progress":
            check_fetch(part)
