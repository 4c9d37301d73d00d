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
    for one in value.logprobs:
        entry = message.logprobs.add(token_id=one.token_id, token=one.token, logprob=one.logprob)
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
    )


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
