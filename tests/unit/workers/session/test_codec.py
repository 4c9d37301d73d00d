"""The codec: what is said in values is what stands on the wire, and back."""

from hypothesis import given
from hypothesis import strategies as st

from protos.allsorts.v1 import fleet_pb2 as pb
from workers.engines import base
from workers.facts import Hardware, ModelReport, ModelState, Profile, Speed, StepSample
from workers.session import codec, messages

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
text = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
real = st.floats(allow_nan=False, allow_infinity=False)
single = st.floats(allow_nan=False, allow_infinity=False, width=32)

logprobs = st.builds(
    base.TokenLogprob,
    token_id=uint32,
    token=st.binary(max_size=8),
    logprob=single,
    top=st.lists(
        st.builds(base.TopLogprob, token_id=uint32, token=st.binary(max_size=8), logprob=single), max_size=3
    ).map(tuple),
)
deltas = st.builds(
    base.Delta,
    request_id=text,
    attempt=uint32,
    position=uint32,
    text=text,
    token_ids=st.lists(uint32, max_size=5).map(tuple),
    token_count=uint32,
    text_tokens=uint32,
    finish_reason=st.none() | st.sampled_from(base.FinishReason),
    usage=st.none() | st.builds(base.Usage, prompt_tokens=uint32, completion_tokens=uint32, cached_tokens=uint32),
    logprobs=st.lists(logprobs, max_size=3).map(tuple),
    error=text,
)
figures = st.builds(
    base.LoadFigures,
    running=uint32,
    waiting=uint32,
    prefill_tokens_pending=uint64,
    context_tokens=uint64,
    expected_remaining_tokens=uint64,
    kv_used=real,
    step_sequence=uint64,
    prefill_progress=uint64,
    tokens_per_s=real,
    last_step_s=real,
    last_step_batch=uint32,
    last_step_prefill_tokens=uint32,
    last_step_prefills=uint32,
)


def over_the_wire(message: pb.WorkerEvent) -> pb.WorkerEvent:
    return pb.WorkerEvent.FromString(message.SerializeToString())


@given(st.lists(deltas, max_size=4), figures, uint64)
def test_a_step_says_the_same_on_the_wire(some: list[base.Delta], load: base.LoadFigures, last: int) -> None:
    """Every field of every delta, log-probabilities included, and the load."""
    report = messages.LoadReport(figures=load, observed_at_unix_s=1.5, last_command=last)
    step = over_the_wire(codec.step(some, report)).step
    assert len(step.deltas) == len(some)
    for wire, value in zip(step.deltas, some, strict=True):
        assert (wire.request_id, wire.attempt, wire.position, wire.text) == (
            value.request_id,
            value.attempt,
            value.position,
            value.text,
        )
        assert tuple(wire.token_ids) == value.token_ids
        assert (wire.token_count, wire.text_tokens, wire.error) == (value.token_count, value.text_tokens, value.error)
        name = pb.FinishReason.Name(wire.finish_reason).removeprefix("FINISH_REASON_")
        assert name == (value.finish_reason.name if value.finish_reason else "UNSPECIFIED")
        assert wire.HasField("usage") == (value.usage is not None)
        assert [(one.token_id, one.token, one.logprob) for one in wire.logprobs] == [
            (one.token_id, one.token, one.logprob) for one in value.logprobs
        ]
        assert [len(one.top) for one in wire.logprobs] == [len(one.top) for one in value.logprobs]
    for field in base.LoadFigures.__dataclass_fields__:
        assert getattr(step.load, field) == getattr(load, field)
    assert step.load.last_command == last


sampling = st.builds(
    base.Sampling,
    max_tokens=st.none() | st.integers(1, 2**32 - 1),
    temperature=single.filter(lambda x: x >= 0),
    top_p=single.filter(lambda x: x > 0),
    top_k=uint32,
    min_p=single,
    presence_penalty=single,
    frequency_penalty=single,
    repetition_penalty=single.filter(lambda x: x > 0),
    seed=st.none() | uint64,
    stop=st.lists(text, max_size=3).map(tuple),
    logprobs=st.booleans(),
    top_logprobs=uint32,
    ignore_eos=st.booleans(),
)
continue_from = st.builds(
    base.ContinueFrom,
    text=text,
    token_ids=st.lists(uint32, max_size=4).map(tuple),
    tokenizer_fingerprint=text,
    output_tokens=uint32,
)
chats = st.lists(st.builds(base.Message, role=text, content=text, name=text), min_size=1, max_size=3).map(tuple)
prompts = text | st.lists(uint32, min_size=1, max_size=4).map(tuple)


@given(sampling, st.none() | continue_from, chats | st.none(), prompts, st.lists(uint64, max_size=4), st.data())
def test_a_job_comes_back_as_it_was_sent(
    how: base.Sampling,
    goes_on: base.ContinueFrom | None,
    chat: tuple[base.Message, ...] | None,
    prompt: str | tuple[int, ...],
    hashes: list[int],
    data: st.DataObject,
) -> None:
    """Encoded as a router does, decoded here: the same job, with "off" where proto3 leaves a zero."""
    numbers = {name: data.draw(uint32) for name in ("attempt", "expected_output_tokens")}
    wire = pb.Generate(
        request_id="r",
        model="m",
        quantization="q",
        priority=-3,
        deadline_s=2.5,
        return_token_ids=True,
        block_hashes=hashes,
        **numbers,
    )
    if chat is not None:
        wire.chat.messages.extend(pb.ChatMessage(role=one.role, content=one.content, name=one.name) for one in chat)
    elif isinstance(prompt, str):
        wire.text = prompt
    else:
        wire.prompt_tokens.ids.extend(prompt)
    for name in (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
    ):
        setattr(wire.sampling, name, getattr(how, name))
    for name in ("logprobs", "top_logprobs", "ignore_eos"):
        setattr(wire.sampling, name, getattr(how, name))
    wire.sampling.stop.extend(how.stop)
    if how.max_tokens is None:
        wire.sampling.max_tokens_unset = True
    else:
        wire.sampling.max_tokens = how.max_tokens
    if how.seed is not None:
        wire.sampling.seed = how.seed
    if goes_on is not None:
        wire.continue_from.text = goes_on.text
        wire.continue_from.token_ids.extend(goes_on.token_ids)
        wire.continue_from.tokenizer_fingerprint = goes_on.tokenizer_fingerprint
        wire.continue_from.output_tokens = goes_on.output_tokens
        wire.continue_from.SetInParent()
    command = codec.command(pb.RouterCommand.FromString(pb.RouterCommand(generate=wire).SerializeToString()))
    assert isinstance(command, messages.Generate)
    assert command.job == base.Job(
        request_id="r",
        model="m",
        quantization="q",
        messages=chat or (),
        prompt="" if chat is not None else prompt,
        sampling=how,
        block_hashes=tuple(hashes),
        continue_from=goes_on,
        deadline_s=2.5,
        priority=-3,
        return_token_ids=True,
        **numbers,
    )


def test_every_command_of_the_contract_is_understood() -> None:
    """None of today's commands decodes to Unknown; an empty one does."""
    for field in pb.RouterCommand.DESCRIPTOR.oneofs_by_name["command"].fields:
        message = pb.RouterCommand(sequence=1)
        getattr(message, field.name).SetInParent()
        assert not isinstance(codec.command(message), messages.Unknown), field.name
    assert codec.command(pb.RouterCommand()) == messages.Unknown()


def test_every_closed_set_has_its_place_in_the_contract() -> None:
    """Each reason, code, state and kind has a value of its own on the wire."""
    for table in (codec._FINISH, codec._REFUSAL, codec._STATE, codec._LEAVING):
        assert 0 not in table.values()
        assert len(set(table.values())) == len(table)
    assert set(codec._FINISH) == set(base.FinishReason)


@given(most=uint64, expected=uint32)
def test_a_condition_arrives_as_the_router_sent_it(most: int, expected: int) -> None:
    """A router that knows none sends none: 0."""
    sent = pb.RouterCommand(generate=pb.Generate(most_pending_tokens=most, expected_prefill_tokens=expected))
    command = codec.command(pb.RouterCommand.FromString(sent.SerializeToString()))
    assert isinstance(command, messages.Generate)
    assert (command.most_pending_tokens, command.expected_prefill_tokens) == (most, expected)
    bare = codec.command(pb.RouterCommand(generate=pb.Generate()))
    assert isinstance(bare, messages.Generate)
    assert (bare.most_pending_tokens, bare.expected_prefill_tokens) == (0, 0)


def test_hello_carries_profile_models_and_speed() -> None:
    """All facts of a loaded model, and its samples."""
    loaded = base.LoadedModel(
        name="m",
        quantization="q8_0",
        format="gguf",
        context_tokens=512,
        slots=4,
        capabilities=base.Capabilities(can_continue=True, seed=True),
        weights_bytes=10**12,
        tokens_per_byte=0.25,
        file="m.gguf",
    )
    speed = Speed(
        base_s=0.01,
        per_sequence_s=0.001,
        per_context_token_s=1e-6,
        prefill_tokens_per_s=500.0,
        samples=(StepSample(batch=1, context_tokens=2, prefill_tokens=3, step_s=0.5),),
    )
    reports = (
        ModelReport(model="m", quantization="q8_0", state=ModelState.READY, loaded=loaded, speed=speed),
        ModelReport(model="n", quantization="", state=ModelState.FAILED, error="no such file", file="n.gguf"),
    )
    profile = Profile(
        node="mac",
        hardware=Hardware(kind="apple", name="Apple M4 Max", details={"chip": "m4"}),
        engine="llama.cpp",
        labels={"site": "lab"},
    )
    load = messages.LoadReport(figures=base.LoadFigures(), observed_at_unix_s=1.0, last_command=0)
    hello = over_the_wire(
        codec.hello(worker_id="w", incarnation="i", profile_now=profile, models=reports, load_now=load)
    ).hello
    first, second = hello.models
    assert (first.weights_bytes, first.context_tokens, first.file, first.tokens_per_byte) == (
        10**12,
        512,
        "m.gguf",
        0.25,
    )
    assert (first.capabilities.can_continue, first.capabilities.can_score) == (True, False)
    assert first.speed.samples[0].step_s == 0.5
    assert (second.state, second.error, second.file) == (pb.MODEL_STATE_FAILED, "no such file", "n.gguf")
    assert dict(hello.profile.labels) == {"site": "lab"}
    assert hello.profile.hardware.details["chip"] == "m4"
