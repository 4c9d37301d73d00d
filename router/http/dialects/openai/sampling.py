"""How tokens are drawn, and the rest that chats and completions have in common, into the router's terms."""

from typing import Any

import msgspec

from protos.contract.request import Sampling
from router.domain.request import SloTargets
from router.errors import InvalidRequest
from router.http.dialects.openai.constraints import grammar_of
from router.http.dialects.openai.fields import GenerationFields, Slo
from router.http.dialects.shared.requests import SEED_BITS
from router.http.dialects.shared.sampling_defaults import unset

LEAST_TOP_P = 1e-6
"""OpenAI takes 0 and means the likeliest token alone; engines want more than nothing."""


def sampling_of(
    body: GenerationFields, *, max_tokens: int | None, logprobs: int | None, echo: bool = False
) -> Sampling:
    """``logprobs``: how many rivals of each token; None: no log-probabilities."""
    repetition = body.repetition_penalty if body.repetition_penalty is not None else body.repeat_penalty
    return Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else max(body.top_p, LEAST_TOP_P),
        top_k=max(0, body.top_k or 0),  # -1 and 0 both mean: off
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=1.0 if repetition is None else repetition,
        seed=None if body.seed is None else body.seed & SEED_BITS,
        stop=stops_of(body.stop),
        logprobs=logprobs is not None,
        top_logprobs=logprobs or 0,
        ignore_eos=bool(body.ignore_eos),
        logit_bias={int(token): bias for token, bias in (body.logit_bias or {}).items()},
        min_tokens=_min_tokens(body.min_tokens or 0, max_tokens),
        stop_token_ids=tuple(dict.fromkeys(body.stop_token_ids or ())),
        echo=echo,
    )


def unset_of(body: GenerationFields, max_tokens: int | None) -> frozenset[str]:
    """What of it the client left open."""
    return unset(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty if body.repetition_penalty is not None else body.repeat_penalty,
        max_tokens=max_tokens,
    )


def stops_of(stop: str | list[str] | None) -> tuple[str, ...]:
    """Empty ones stop nothing, as at OpenAI."""
    return tuple(one for one in ([stop] if isinstance(stop, str) else stop or ()) if one)


def common_wishes(body: GenerationFields) -> dict[str, Any]:
    """Fields of a ``Wish`` that chats and completions say alike. Raises InvalidRequest."""
    return {
        "grammar": grammar_of(body),
        "choices": body.n or 1,
        "quality": body.quality,
        "priority": body.priority,
        "slo": slo_of(body.slo),
        "deadline_s": body.deadline_s,
    }


def slo_of(slo: Slo | None) -> SloTargets | None:
    """None: the key's own targets count."""
    if slo is None:
        return None
    return SloTargets(ttft_s=slo.ttft_s, ttft_per_prompt_token_s=slo.ttft_per_prompt_token_s or 0.0, tpot_s=slo.tpot_s)


def template_arguments(given: dict[str, Any] | None, **more: Any) -> str:
    """JSON object of what the chat template is given; empty for nothing."""
    arguments = {**{name: value for name, value in more.items() if value is not None}, **(given or {})}
    return msgspec.json.encode(arguments).decode() if arguments else ""


def check_stream_options(body: GenerationFields) -> None:
    """Raises InvalidRequest."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("'stream_options' needs 'stream': true", param="stream_options")


def _min_tokens(least: int, most: int | None) -> int:
    if most is not None and least > most:
        raise InvalidRequest("'min_tokens' is above 'max_tokens'", param="min_tokens")
    return least
