"""What comes back while a request runs, on the wire. Deltas are hot: once per request and engine step."""

from collections.abc import Callable
from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.records import Names, Record
from protos.contract.codec.worker import LOAD
from protos.contract.ids import RequestId
from protos.contract.printable import one_line
from protos.contract.stream import (
    Accepted,
    Delta,
    FinishReason,
    Refusal,
    RefusalCode,
    Returned,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from protos.contract.tools import ToolCallDelta
from protos.contract.validation import MAX_NAME

FINISH_REASONS = Names(FinishReason, pb.FinishReason.DESCRIPTOR, unknown=None)
REFUSAL_CODES = Names(RefusalCode, pb.RefusalCode.DESCRIPTOR, unknown=RefusalCode.BUSY)


def encode_delta(value: Delta, add: Callable[..., pb.Delta]) -> None:
    """One attempt's new output. ``add`` makes the message in its place within a step, so that nothing is copied."""
    message = add(
        request_id=value.request_id,
        attempt=value.attempt,
        position=value.position,
        text=value.text,
        token_ids=value.token_ids,
        token_count=value.token_count,
        text_tokens=value.text_tokens,
    )
    if value.reasoning:
        message.reasoning = value.reasoning
    if value.finish_reason is not None:
        message.finish_reason = FINISH_REASONS.number[value.finish_reason]  # type: ignore[assignment]
        message.error = value.error
    usage = value.usage
    if usage is not None:
        counts = message.usage
        counts.prompt_tokens = usage.prompt_tokens
        counts.completion_tokens = usage.completion_tokens
        counts.cached_tokens = usage.cached_tokens
        counts.SetInParent()
    if value.logprobs:
        _add_logprobs(value.logprobs, message.logprobs.add)
    if value.raw or value.tool_calls or value.stopped_by or value.echo or value.echo_logprobs or value.vectors:
        _encode_more(value, message)


def _encode_more(value: Delta, message: pb.Delta) -> None:
    """What few answers have: calls, thoughts, the prompt's echo, vectors."""
    message.raw, message.stopped_by, message.echo = value.raw, value.stopped_by, value.echo
    for call in value.tool_calls:
        message.tool_calls.add(index=call.index, id=call.id, name=call.name, arguments=call.arguments)
    _add_logprobs(value.echo_logprobs, message.echo_logprobs.add)
    for vector in value.vectors:
        message.vectors.add(values=vector)


def _add_logprobs(values: tuple[TokenLogprob, ...], add: Callable[..., pb.TokenLogprob]) -> None:
    for one in values:
        entry = add(token_id=one.token_id, token=one.token, logprob=one.logprob)
        for top in one.top:
            entry.top.add(token_id=top.token_id, token=top.token, logprob=top.logprob)


def decode_delta(message: pb.Delta) -> Delta:
    """The same, read. Usage counts with a finish reason only."""
    finish, usage, error = None, None, message.error
    if message.finish_reason:
        finish = FINISH_REASONS.decode(message.finish_reason)
        usage = _usage(message.usage)
    return Delta(
        request_id=RequestId(message.request_id),
        attempt=message.attempt,
        position=message.position,
        text=message.text,
        reasoning=message.reasoning,
        token_ids=tuple(message.token_ids),
        token_count=message.token_count,
        text_tokens=message.text_tokens,
        finish_reason=finish,
        usage=usage,
        logprobs=tuple([_logprob(one) for one in message.logprobs]) if message.logprobs else (),
        error=one_line(error) if error else "",
        tool_calls=tuple([_call(one) for one in message.tool_calls]) if message.tool_calls else (),
        raw=message.raw,
        stopped_by=message.stopped_by,
        echo=message.echo,
        echo_logprobs=tuple([_logprob(one) for one in message.echo_logprobs]) if message.echo_logprobs else (),
        vectors=tuple([tuple(one.values) for one in message.vectors]) if message.vectors else (),
    )


def _call(message: pb.ToolCallDelta) -> ToolCallDelta:
    return ToolCallDelta(index=message.index, id=message.id, name=message.name, arguments=message.arguments)


def _usage(message: pb.Usage) -> Usage:
    return Usage(
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cached_tokens=message.cached_tokens,
    )


def _logprob(message: pb.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(
        token_id=message.token_id,
        token=message.token,
        logprob=message.logprob,
        top=tuple([TopLogprob(token_id=one.token_id, token=one.token, logprob=one.logprob) for one in message.top]),
    )


def _refusal_in_one_line(content: dict[str, Any]) -> None:
    content["message"] = one_line(content["message"])
    content["parameter"] = one_line(content["parameter"], MAX_NAME)


def _reason_in_one_line(content: dict[str, Any]) -> None:
    content["reason"] = one_line(content["reason"])


ACCEPTED = Record(Accepted, pb.Accepted)
REFUSAL = Record(Refusal, pb.Refusal, {"code": REFUSAL_CODES, "load": LOAD}, clean=_refusal_in_one_line)
RETURNED = Record(Returned, pb.Returned, clean=_reason_in_one_line)
