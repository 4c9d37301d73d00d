"""One codec for both directions: what is said in values arrives as the same values."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract import commands as c
from protos.contract import events as e
from protos.contract.codec.commands import decode_command, encode_command
from protos.contract.codec.enrolment import (
    ENROL_REPLY,
    ENROL_REQUEST,
    MAX_FILES,
    RENEW_REPLY,
    decode_enrol_request,
)
from protos.contract.codec.events import decode_event, encode_event, encode_step
from protos.contract.codec.records import Names
from protos.contract.files.content import FilePart, HeldModel, content_of
from protos.contract.grammar import GrammarKind
from protos.contract.ids import RequestId
from protos.contract.joining.enrolment import EnrolReply, EnrolRequest, RenewReply
from protos.contract.request import ChatMessage, EmbeddingInputs, Job
from protos.contract.stream import Accepted, Delta, FinishReason, Refusal, RefusalCode, Returned, Usage
from protos.contract.tools import ToolChoice
from protos.contract.validation import OutOfBounds
from protos.contract.worker import Hardware, InstanceState, Load, ModelInstance, Profile, Speed
from tests.support.curves import curves
from tests.unit.protos.contract.codec.strategies import over_the_wire, values_of

RECEIVED_AT = 12.5

drawn_curves = st.just(()) | curves.map(lambda points: tuple(one for one in points if one.seconds >= 0.01))
speeds = values_of(
    Speed, pb.Speed, decode_curve=drawn_curves, prefill_curve=drawn_curves, prefill_tokens_per_s=st.floats(1.0, 1e6)
)
models = values_of(ModelInstance, pb.ModelInstance, speed=st.none() | speeds).map(
    lambda one: replace(one, active_parameters=one.active_parameters or one.parameters)
)
loads = values_of(Load, pb.Load).map(lambda one: replace(one, observed_at=RECEIVED_AT))
deltas = values_of(Delta, pb.Delta).map(
    lambda one: structs.replace(
        one, **({"usage": one.usage or Usage()} if one.finish_reason else {"usage": None, "error": ""})
    )
)
none = st.none()
jobs = st.one_of(
    values_of(
        Job,
        pb.Generate,
        messages=st.lists(values_of(ChatMessage, pb.ChatMessage), min_size=1, max_size=3).map(tuple),
        embedding=none,
    ),
    values_of(Job, pb.Generate, prompt=st.text(st.characters(exclude_categories=("Cs",))), embedding=none),
    values_of(Job, pb.Generate, prompt=st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple), embedding=none),
    values_of(Job, pb.Generate, embedding=values_of(EmbeddingInputs, pb.EmbeddingInputs)),
)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
parts = st.lists(
    st.builds(
        FilePart,
        name=st.from_regex("[a-z]{1,8}[.](gguf|json|safetensors)", fullmatch=True),
        size_bytes=st.integers(0, 2**50),
        sha256=hashes,
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one.name,
)
held = values_of(HeldModel, pb.HeldModel, content=parts.map(content_of))

EVENTS = {
    "hello": values_of(
        e.Hello,
        pb.Hello,
        models=st.lists(models, max_size=2).map(tuple),
        files=st.lists(models, max_size=1).map(tuple),
        load=st.none() | loads,
    ),
    "step": values_of(e.Step, pb.Step, deltas=st.lists(deltas, max_size=4).map(tuple), load=st.none() | loads),
    "accepted": values_of(Accepted, pb.Accepted),
    "refusal": values_of(Refusal, pb.Refusal, load=st.none() | loads),
    "returned": values_of(Returned, pb.Returned),
    "model_progress": values_of(e.ModelProgress, pb.ModelProgress, model=models),
    "cache": values_of(e.CacheChange, pb.CacheEvents),
    "leaving": values_of(e.Leaving, pb.Leaving, kind=st.sampled_from(e.LeavingKind)),
    "score": values_of(e.ScoreResult, pb.ScoreResult),
    "pong": values_of(e.Pong, pb.Pong),
    "draft": values_of(e.DraftReport, pb.DraftReport),
    "files_held": values_of(e.FilesHeld, pb.FilesHeld, models=st.lists(held, max_size=3).map(tuple)),
    "fetch_progress": values_of(e.FetchProgress, pb.FetchProgress),
}
COMMANDS = {
    "welcome": values_of(c.Welcome, pb.Welcome),
    "generate": values_of(c.Generate, pb.Generate, job=jobs),
    "abort": values_of(c.Abort, pb.Abort),
    "score": values_of(c.Score, pb.Score),
    "load_model": values_of(c.LoadModel, pb.LoadModel),
    "unload_model": values_of(c.UnloadModel, pb.UnloadModel),
    "fetch_model": values_of(c.FetchModel, pb.FetchModel),
    "remove_model": values_of(c.RemoveModel, pb.RemoveModel),
    "send_file": values_of(c.SendFile, pb.SendFile),
    "drain": values_of(c.Drain, pb.Drain),
    "undrain": st.just(c.Undrain()),
    "assign_draft": values_of(c.AssignDraft, pb.AssignDraft),
    "draft_targets": values_of(c.DraftTargets, pb.DraftTargets),
    "replicas": values_of(c.ReplicaList, pb.ReplicaList),
    "ping": values_of(c.Ping, pb.Ping),
    "dismiss": values_of(c.Dismiss, pb.Dismiss),
}


def oneof(message: type[Any], name: str) -> set[str]:
    return {one.name for one in message.DESCRIPTOR.oneofs_by_name[name].fields}


def test_every_event_and_command_of_the_protocol_is_drawn_here() -> None:
    """A new one is not left untested."""
    assert set(EVENTS) == oneof(pb.WorkerEvent, "event")
    assert set(COMMANDS) == oneof(pb.RouterCommand, "command")


@pytest.mark.parametrize("kind", sorted(EVENTS))
@given(data=st.data())
def test_an_event_arrives_as_it_was_said(kind: str, data: st.DataObject) -> None:
    """Its load is of the moment it was received."""
    event = data.draw(EVENTS[kind])
    message = over_the_wire(encode_event(event))
    assert message.WhichOneof("event") == kind
    assert decode_event(message, RECEIVED_AT) == event


@pytest.mark.parametrize("kind", sorted(COMMANDS))
@given(data=st.data())
def test_a_command_arrives_as_it_was_given(kind: str, data: st.DataObject) -> None:
    """With its number in the session."""
    command = data.draw(COMMANDS[kind])
    message = over_the_wire(encode_command(command, 7))
    assert (message.sequence, message.WhichOneof("command")) == (7, kind)
    assert decode_command(message) == command


@given(values_of(EnrolRequest, pb.EnrolRequest, files=st.lists(models, max_size=2).map(tuple)))
def test_a_request_to_be_let_in_arrives_as_it_was_made(request: EnrolRequest) -> None:
    """Files that no machine can have aside, see below."""
    assert decode_enrol_request(over_the_wire(ENROL_REQUEST.encode(request))) == request


@given(values_of(EnrolReply, pb.EnrolReply), values_of(RenewReply, pb.RenewReply))
def test_the_routers_answer_arrives_as_it_was_given(enrolled: EnrolReply, renewed: RenewReply) -> None:
    """Certificates included."""
    assert ENROL_REPLY.decode(over_the_wire(ENROL_REPLY.encode(enrolled))) == enrolled
    assert RENEW_REPLY.decode(over_the_wire(RENEW_REPLY.encode(renewed))) == renewed


def test_files_that_cannot_be_true_are_left_out_and_the_list_is_bounded() -> None:
    """A machine is not refused for a damaged file in its folder."""
    profile = Profile(node="mac", hardware=Hardware(kind="apple", name="x"), engine="llama.cpp")
    odd = ModelInstance(model="odd", quantization="q8_0", bits_per_weight=1e30)
    files = (odd, *(ModelInstance(model=f"m{n}", quantization="q8_0") for n in range(MAX_FILES + 10)))
    read = decode_enrol_request(ENROL_REQUEST.encode(EnrolRequest(profile=profile, files=files)))
    assert [one.model for one in read.files] == [f"m{n}" for n in range(MAX_FILES - 1)]


@pytest.mark.parametrize(
    ("values", "wire"),
    [
        (FinishReason, pb.FinishReason),
        (GrammarKind, pb.GrammarKind),
        (ToolChoice, pb.ToolChoice),
        (RefusalCode, pb.RefusalCode),
        (InstanceState, pb.ModelState),
        (e.LeavingKind, pb.LeavingKind),
    ],
)
def test_every_closed_set_has_its_place_on_the_wire(values: Any, wire: Any) -> None:
    """Each member has a number of its own, and no number is without a member; of a newer one nothing is made up."""
    names: Names[Any] = Names(values, wire.DESCRIPTOR, unknown=None)
    assert sorted(names.number.values()) == sorted(set(wire.values()) - {0})
    assert names.decode(99) is None


def test_what_no_sampler_means_is_off() -> None:
    """proto3 sends nothing for 0: an older router's 0 is no limit and no penalty."""
    job = decode_command(pb.RouterCommand(generate=pb.Generate(sampling=pb.Sampling(max_tokens=0))))
    assert isinstance(job, c.Generate)
    sampling = job.job.sampling
    assert (sampling.max_tokens, sampling.top_p, sampling.repetition_penalty) == (None, 1.0, 1.0)


@pytest.mark.parametrize(("limit", "echo", "read"), [(0, True, 0), (0, False, None), (7, True, 7), (None, True, None)])
def test_no_tokens_may_be_asked_for_where_the_prompt_is_repeated(
    limit: int | None, echo: bool, read: int | None
) -> None:
    """Evaluators ask what the prompt's own tokens are worth, and nothing more."""
    job = decode_command(pb.RouterCommand(generate=pb.Generate(sampling=pb.Sampling(max_tokens=limit, echo=echo))))
    assert isinstance(job, c.Generate)
    assert job.job.sampling.max_tokens == read


def test_a_grammar_that_this_version_does_not_know_is_no_capability() -> None:
    """A newer worker's new kind is not asked for, the others are."""
    able = pb.Capabilities(grammars=[pb.GRAMMAR_KIND_REGEX, 99])  # type: ignore[list-item]
    hello = pb.Hello(worker_id="w", models=[pb.ModelInstance(model="m", quantization="q8_0", capabilities=able)])
    heard = decode_event(over_the_wire(pb.WorkerEvent(hello=hello)), 0.0)
    assert isinstance(heard, e.Hello)
    assert heard.models[0].capabilities.grammars == (GrammarKind.REGEX,)


def test_a_command_or_an_event_of_a_newer_protocol_is_no_known_one() -> None:
    """A worker leaves it alone, a router ends the session."""
    assert decode_command(pb.RouterCommand()) == c.Unknown()
    with pytest.raises(OutOfBounds):
        decode_event(pb.WorkerEvent(), 0.0)
    leaving = decode_event(pb.WorkerEvent(leaving=pb.Leaving(kind=99, reason="x")), 0.0)  # type: ignore[arg-type]
    assert leaving == e.Leaving(kind=None, reason="x")


@pytest.mark.parametrize("encode", [lambda one: encode_event(e.Step(deltas=one)), lambda one: encode_step(one, None)])
def test_an_empty_step_is_a_step(encode: Callable[[Any], pb.WorkerEvent]) -> None:
    """What says nothing is still heard: it is a sign of life."""
    assert decode_event(over_the_wire(encode(())), 0.0) == e.Step()


def test_every_field_of_a_load_has_a_field_on_the_wire() -> None:
    """But when a load was received, which its sender cannot know, and what only a worker's own benchmark reads."""
    untold = {one.name for one in fields(Load)} - set(pb.Load.DESCRIPTOR.fields_by_name)
    assert untold == {"observed_at", "last_step_prefills"}


def test_a_step_in_columns_says_the_same() -> None:
    """Plain text in columns, what is more as it was: nothing is lost, and a request has one delta in a step."""
    deltas = (
        Delta(
            request_id=RequestId("a"), attempt=1, position=3, text="one", token_ids=(7,), token_count=1, text_tokens=4
        ),
        Delta(request_id=RequestId("b"), attempt=2, position=0, token_count=2, token_ids=(8, 9)),
        Delta(
            request_id=RequestId("c"),
            attempt=1,
            position=5,
            text="end",
            token_count=1,
            finish_reason=FinishReason.STOP,
            usage=Usage(),
        ),
        Delta(request_id=RequestId("d"), attempt=1, position=1, text="ü", token_count=1, text_tokens=2),
    )
    message = over_the_wire(encode_step(deltas, None, columns=True))
    assert [one.request_id for one in message.step.deltas] == ["c"]
    step = decode_event(message, 0.0)
    assert isinstance(step, e.Step)
    assert sorted(step.deltas, key=lambda one: one.request_id) == list(deltas)


def test_an_end_beside_columns_comes_after_the_text_in_them() -> None:
    """However a worker came to send both in one step: the other way round the text would look left out."""
    text = Delta(request_id=RequestId("a"), attempt=1, position=3, text="one", token_count=1, text_tokens=4)
    end = Delta(request_id=RequestId("a"), attempt=1, position=4, finish_reason=FinishReason.STOP, usage=Usage())
    step = decode_event(over_the_wire(encode_step((text, end), None, columns=True)), 0.0)
    assert step == e.Step(deltas=(text, end))


@pytest.mark.parametrize("column", ["request_ids", "positions", "texts", "text_tokens", "id_counts"])
def test_columns_of_different_lengths_end_the_session(column: str) -> None:
    """A worker that means harm is not guessed at."""
    message = encode_step(
        (Delta(request_id=RequestId("a"), attempt=1, position=0, token_count=1, token_ids=(5,)),), None, columns=True
    )
    del getattr(message.step.plain, column)[0]
    with pytest.raises(OutOfBounds):
        decode_event(message, 0.0)
