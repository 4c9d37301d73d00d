"""Router to worker: every command on the wire, and back."""

from collections.abc import Iterator
from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.files import CONTENT
from protos.contract.codec.prompts import EMBEDDING, GRAMMAR, MESSAGE, TOOLING
from protos.contract.codec.records import Record
from protos.contract.codec.worker import REPLICA
from protos.contract.commands import (
    Abort,
    AssignDraft,
    Dismiss,
    DraftTargets,
    Drain,
    FetchModel,
    Generate,
    LoadModel,
    Ping,
    RemoveModel,
    ReplicaList,
    RouterCommand,
    Score,
    SendFile,
    Undrain,
    Unknown,
    UnloadModel,
    Welcome,
)
from protos.contract.request import ContinueFrom, Job, Sampling

MOST_TOGETHER = 64
TOGETHER_BYTES = 64 * 1024
"""Commands that follow one in its message; and the size from which it is full."""


def _off(content: dict[str, Any]) -> None:
    """No sampler means 0 by these, so 0 (which proto3 does not send) is "off"."""
    content["top_p"] = content["top_p"] or 1.0
    content["repetition_penalty"] = content["repetition_penalty"] or 1.0
    content["max_tokens"] = content["max_tokens"] or (content["max_tokens"] if content["echo"] else None)


_JOB = Record(
    Job,
    pb.Generate,
    {
        "sampling": Record(Sampling, pb.Sampling, clean=_off),
        "continue_from": Record(ContinueFrom, pb.ContinueFrom),
        "embedding": EMBEDDING,
        "tooling": TOOLING,
        "grammar": GRAMMAR,
    },
    apart=("messages", "prompt"),
)


class _GenerateRecord:
    """A job and the conditions it is sent under share one message; the prompt is one of four things."""

    @staticmethod
    def encode(value: Generate) -> pb.Generate:
        job = value.job
        message = _JOB.encode(job)
        message.max_queued_prefill_tokens = value.max_queued_prefill_tokens
        message.expected_prefill_tokens = value.expected_prefill_tokens
        if job.messages:
            message.chat.messages.extend([MESSAGE.encode(one) for one in job.messages])
        elif job.embedding is not None:
            pass  # it is set already
        elif isinstance(job.prompt, str):
            message.text = job.prompt
        else:
            message.prompt_tokens.ids.extend(job.prompt)
        return message

    @staticmethod
    def decode(message: pb.Generate) -> Generate:
        prompt: str | tuple[int, ...] = message.text
        if message.HasField("prompt_tokens"):
            prompt = tuple(message.prompt_tokens.ids)
        messages = tuple([MESSAGE.decode(one) for one in message.chat.messages])
        return Generate(
            job=_JOB.decode(message, messages=messages, prompt=prompt),
            max_queued_prefill_tokens=message.max_queued_prefill_tokens,
            expected_prefill_tokens=message.expected_prefill_tokens,
        )


_KINDS: dict[type, tuple[str, Any]] = {
    Welcome: ("welcome", Record(Welcome, pb.Welcome, {"replicas": REPLICA})),
    Generate: ("generate", _GenerateRecord),
    Abort: ("abort", Record(Abort, pb.Abort)),
    Score: ("score", Record(Score, pb.Score)),
    LoadModel: ("load_model", Record(LoadModel, pb.LoadModel, {"content": CONTENT})),
    UnloadModel: ("unload_model", Record(UnloadModel, pb.UnloadModel)),
    FetchModel: ("fetch_model", Record(FetchModel, pb.FetchModel, {"content": CONTENT})),
    RemoveModel: ("remove_model", Record(RemoveModel, pb.RemoveModel)),
    SendFile: ("send_file", Record(SendFile, pb.SendFile)),
    Drain: ("drain", Record(Drain, pb.Drain)),
    Undrain: ("undrain", Record(Undrain, pb.Undrain)),
    AssignDraft: ("assign_draft", Record(AssignDraft, pb.AssignDraft)),
    DraftTargets: ("draft_targets", Record(DraftTargets, pb.DraftTargets)),
    ReplicaList: ("replicas", Record(ReplicaList, pb.ReplicaList, {"replicas": REPLICA})),
    Ping: ("ping", Record(Ping, pb.Ping)),
    Dismiss: ("dismiss", Record(Dismiss, pb.Dismiss)),
}
_RECORDS = dict(_KINDS.values())


def encode_command(command: RouterCommand, sequence: int) -> pb.RouterCommand:
    """Any command but Unknown, as the ``sequence``-th of its session."""
    name, record = _KINDS[type(command)]
    return pb.RouterCommand(**{"sequence": sequence, name: record.encode(command)})


def add_following(message: pb.RouterCommand, commands: Iterator[tuple[int, RouterCommand]]) -> None:
    """Into one message what is ready together, each a write saved: up to ``MOST_TOGETHER`` commands, and about as many
    bytes as ``TOGETHER_BYTES``. ``commands`` is left at the first that does not go with it.
    """
    size = message.ByteSize()
    for _ in range(MOST_TOGETHER):
        if size >= TOGETHER_BYTES:
            return
        following = next(commands, None)
        if following is None:
            return
        sequence, command = following
        one = message.following.add()
        one.MergeFrom(encode_command(command, sequence))
        size += one.ByteSize()


def decode_command(message: pb.RouterCommand) -> RouterCommand:
    """Any command; a kind this version does not know becomes ``Unknown``."""
    kind = message.WhichOneof("command")
    if kind is None:
        return Unknown()
    command: RouterCommand = _RECORDS[kind].decode(getattr(message, kind))
    return command
