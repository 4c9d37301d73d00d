"""Completion chunks as servers send them, and requests as they want them. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protos.contract.request import Job, Sampling
from protos.contract.stream import FinishReason, TokenLogprob, TopLogprob, Usage


class Flavor(StrEnum):
    """Which server answers; they differ beyond OpenAI's parameters."""

    LLAMA_SERVER = "llama-server"
    OLLAMA = "ollama"
    LM_STUDIO = "lm-studio"
    VLLM = "vllm"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one streamed event says."""

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    error: str = ""


_FINISH = {"length": FinishReason.LENGTH}
"""Everything else a server may say (stop, eos, tool_calls, content_filter) is a stop."""


def parse_chunk(data: str) -> Chunk:
    """One event's JSON. An event that cannot be understood becomes an error chunk."""
    try:
        event = json.loads(data)
    except json.JSONDecodeError:
        return Chunk(error=f"the server sent something that is no JSON: {data[:80]!r}")
    if not isinstance(event, dict):
        return Chunk(error=f"the server sent something that is no chunk: {data[:80]!r}")
    if "error" in event:
        return Chunk(error=error_line(event))
    usage = _usage(event.get("usage"))
    choices = event.get("choices") or []
    if not choices:
        return Chunk(usage=usage)
    choice = choices[0]
    delta = choice.get("delta") or {}
    text = choice.get("text") or delta.get("content") or delta.get("reasoning_content") or ""
    reason = choice.get("finish_reason")
    return Chunk(
        text=text,
        finish_reason=_FINISH.get(reason, FinishReason.STOP) if reason else None,
        usage=usage,
        logprobs=_logprobs(choice.get("logprobs")),
    )


def error_line(body: Any) -> str:
    """What a server's error body says, in one line."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or json.dumps(error)
    return " ".join(str(error).split())[:300]


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=int(value.get("prompt_tokens") or 0),
        completion_tokens=int(value.get("completion_tokens") or 0),
        cached_tokens=int(details.get("cached_tokens") or 0),
    )


def _logprobs(value: Any) -> tuple[TokenLogprob, ...]:
    if not isinstance(value, dict):
        return ()
    if isinstance(value.get("content"), list):
        return tuple(
            TokenLogprob(**_entry(one), top=tuple(TopLogprob(**_entry(top)) for top in one.get("top_logprobs") or ()))
            for one in value["content"]
        )
    tokens, numbers = value.get("tokens") or [], value.get("token_logprobs") or []
    alternatives = value.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        TokenLogprob(
            token_id=0,
            token=token.encode(),
            logprob=number or 0.0,
            top=tuple(TopLogprob(token_id=0, token=name.encode(), logprob=p) for name, p in (top or {}).items()),
        )
        for token, number, top in zip(tokens, numbers, alternatives, strict=False)
    )


def _entry(one: dict[str, Any]) -> dict[str, Any]:
    raw = one.get("bytes")
    token = bytes(raw) if raw else str(one.get("token", "")).encode()
    return {"token_id": int(one.get("id") or 0), "token": token, "logprob": float(one.get("logprob") or 0.0)}


# ---------------------------------------------------------------- requests


def request_of(job: Job, *, model: str, flavor: Flavor, room_tokens: int) -> tuple[str, dict[str, Any]]:
    """Path under the base URL and JSON body. ``room_tokens``: what the context leaves, when no limit was given."""
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= _sampling(job.sampling, flavor, chat=bool(job.messages))
    if job.messages:
        body["messages"] = [_message(one.role, one.content, one.name) for one in job.messages]
        if job.continue_from is not None and job.continue_from.text:
            body["messages"].append(_message("assistant", job.continue_from.text, ""))
            if flavor is Flavor.VLLM:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        return "chat/completions", body
    continued = job.continue_from.text if job.continue_from is not None else ""
    body["prompt"] = job.prompt + continued if isinstance(job.prompt, str) else list(job.prompt)
    # OpenAI's completions stop after 16 tokens when nothing is said.
    body.setdefault("max_tokens", max(1, room_tokens))
    return "completions", body


def _message(role: str, content: str, name: str) -> dict[str, str]:
    return {"role": role, "content": content} | ({"name": name} if name else {})


def _sampling(sampling: Sampling, flavor: Flavor, *, chat: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    # llama-server's own defaults are top_k 40 and min_p 0.05: "off" has to be said. Others may not know these names.
    says_all = flavor is Flavor.LLAMA_SERVER
    for name in ("presence_penalty", "frequency_penalty", "top_k", "min_p"):
        if says_all or getattr(sampling, name):
            body[name] = getattr(sampling, name)
    if says_all or sampling.repetition_penalty != 1.0:
        body["repetition_penalty" if flavor is Flavor.VLLM else "repeat_penalty"] = sampling.repetition_penalty
    if sampling.ignore_eos:
        body["ignore_eos"] = True
    if sampling.logprobs:
        body |= (
            {"logprobs": True, "top_logprobs": sampling.top_logprobs} if chat else {"logprobs": sampling.top_logprobs}
        )
    return body
