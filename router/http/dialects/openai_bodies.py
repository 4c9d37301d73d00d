"""Answers as OpenAI's clients read them: whole bodies, the model list, usage, and what we add to them."""

from collections.abc import Sequence
from typing import Any

from protos.contract.stream import FinishReason, Usage
from protos.contract.worker import InstanceState
from router.domain.answer import AnswerHead, Continuation
from router.domain.request import RequestKind
from router.domain.snapshot import FleetSnapshot


def usage_body(usage: Usage) -> dict[str, Any]:
    """Token counts as the workers counted them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def disclosure(head: AnswerHead, continuations: Sequence[Continuation]) -> dict[str, Any]:
    """Who answered, and every move on the way: ``worker`` and ``quantization`` are those that finished."""
    last = continuations[-1] if continuations else None
    return {
        "worker": last.to_node if last else head.node,
        "quantization": last.to_quantization if last else head.quantization,
        "continuations": [
            {
                "from_worker": move.from_node,
                "to_worker": move.to_node,
                "from_quantization": move.from_quantization,
                "to_quantization": move.to_quantization,
                "at_token": move.at_token,
                "reason": move.reason,
            }
            for move in continuations
        ],
    }


def answer_body(
    kind: RequestKind,
    head: AnswerHead,
    *,
    created: int,
    text: str,
    reasoning: str,
    finish_reason: FinishReason,
    usage: Usage,
    logprobs: dict[str, Any] | None,
    continuations: Sequence[Continuation],
) -> dict[str, Any]:
    """A ``chat.completion`` or ``text_completion`` object."""
    choice: dict[str, Any] = {"index": 0, "logprobs": logprobs, "finish_reason": str(finish_reason)}
    if kind is RequestKind.CHAT:
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        if reasoning:
            choice["message"]["reasoning_content"] = reasoning
    else:
        choice["text"] = text
    return {
        "id": head.request_id,
        "object": "chat.completion" if kind is RequestKind.CHAT else "text_completion",
        "created": created,
        "model": head.model,
        "choices": [choice],
        "usage": usage_body(usage),
        "allsorts": disclosure(head, continuations),
    }


def model_bodies(fleet: FleetSnapshot, known: Sequence[str], created: int) -> dict[str, dict[str, Any]]:
    """Every model by the id a client may ask for: its name, and each quantization that is loaded now, pinned."""
    loaded: dict[str, set[str]] = {name: set() for name in known}
    for worker in fleet.workers:
        for instance in worker.models:
            if instance.state is InstanceState.READY:
                loaded.setdefault(instance.model, set()).add(instance.quantization)
    bodies: dict[str, dict[str, Any]] = {}
    for name, quantizations in sorted(loaded.items()):
        bodies[name] = _model(name, sorted(quantizations), created)
        for quantization in sorted(quantizations):
            pinned = f"{name}@{quantization}"
            bodies[pinned] = _model(pinned, [quantization], created)
    return bodies


def _model(name: str, quantizations: list[str], created: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "allsorts",
        "allsorts": {"quantizations": quantizations},
    }
