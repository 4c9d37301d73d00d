"""Requests as each kind of server wants them. Pure."""

import json
from enum import StrEnum
from typing import Any

from protos.contract.request import Job, Sampling
from workers.engines.openai_compatible.features.grammars import grammar_body
from workers.engines.openai_compatible.features.messages import message_body, tooling_body


class Flavor(StrEnum):
    """Which server answers; they differ beyond OpenAI's parameters."""

    LLAMA_SERVER = "llama-server"
    OLLAMA = "ollama"
    LM_STUDIO = "lm-studio"
    VLLM = "vllm"
    SGLANG = "sglang"
    PLAIN = "plain"


_BATCHING = frozenset({Flavor.VLLM, Flavor.SGLANG})
"""Both take what OpenAI's API lacks under the same names."""


def request_of(job: Job, *, model: str, flavor: Flavor, room_tokens: int) -> tuple[str, dict[str, Any]]:
    """Path under the base URL and JSON body. ``room_tokens``: what the context leaves, when no limit was given."""
    body: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    body |= _sampling(job.sampling, flavor, chat=bool(job.messages))
    if job.cache_salt and flavor is Flavor.VLLM:  # the others know no such thing: what they cache is everybody's
        body["cache_salt"] = job.cache_salt
    if job.grammar is not None:
        body |= grammar_body(
            job.grammar, structured_outputs=flavor is Flavor.VLLM, plain_fields=flavor is Flavor.SGLANG
        )
    if job.messages:
        body["messages"] = [message_body(one) for one in job.messages]
        if job.tooling is not None:
            body |= tooling_body(job.tooling, names_one=flavor is not Flavor.LLAMA_SERVER)
        if job.template_arguments:
            body["chat_template_kwargs"] = json.loads(job.template_arguments)
        if job.continue_from is not None and job.continue_from.text:
            body["messages"].append({"role": "assistant", "content": job.continue_from.text})
            if flavor in _BATCHING:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        return "chat/completions", body
    continued = job.continue_from.text if job.continue_from is not None else ""
    body["prompt"] = job.prompt + continued if isinstance(job.prompt, str) else list(job.prompt)
    # OpenAI's completions stop after 16 tokens when nothing is said.
    body.setdefault("max_tokens", max(1, room_tokens))
    return "completions", body


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
        body["repetition_penalty" if flavor in _BATCHING else "repeat_penalty"] = sampling.repetition_penalty
    if sampling.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if flavor in _BATCHING and sampling.min_tokens:
        body["min_tokens"] = sampling.min_tokens
    if flavor in _BATCHING and sampling.stop_token_ids:
        body["stop_token_ids"] = list(sampling.stop_token_ids)
    if sampling.ignore_eos:
        body["ignore_eos"] = True
    if sampling.logprobs:
        body |= (
            {"logprobs": True, "top_logprobs": sampling.top_logprobs} if chat else {"logprobs": sampling.top_logprobs}
        )
    return body
