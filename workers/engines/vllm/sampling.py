"""Between the contract's sampling and vLLM's parameters and outputs. Pure apart from vLLM's own types."""

from collections.abc import Callable, Iterable
from typing import Any

from protos.contract.request import Sampling
from protos.contract.stream import FinishReason, RefusalCode, TokenLogprob, TopLogprob
from workers.engines.base import Refused
from workers.engines.vllm.running import Output

_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.ABORTED,
    "error": FinishReason.ERROR,
}


def sampling_parameters(
    sampling: Sampling, budget: int, ends: frozenset[int], structured: dict[str, Any] | None = None
) -> Any:
    """VLLM's SamplingParams; tokens come as deltas, text is made here. ``structured``: what the output is kept to."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        structured_outputs=None if structured is None else StructuredOutputsParams(**structured),
        logit_bias=dict(sampling.logit_bias) or None,
        min_tokens=min(sampling.min_tokens, budget),
        max_tokens=budget,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=None if sampling.seed is None else sampling.seed % 2**63,
        ignore_eos=sampling.ignore_eos,
        stop_token_ids=sorted({*sampling.stop_token_ids, *(() if sampling.ignore_eos else ends)}),
        logprobs=sampling.top_logprobs if sampling.logprobs else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def refuse_beside_speculation(sampling: Sampling) -> None:
    """What vLLM (0.32.0) does not draw by while it speculates. Raises Refused, before any work."""
    for name, given in (("logit_bias", bool(sampling.logit_bias)), ("min_p", sampling.min_p > 0.0)):
        if given:
            reason = f"vLLM takes no {name} on a worker whose option 'speculate' is set"
            raise Refused(RefusalCode.UNSUPPORTED, reason, parameter=name)


def scoring_parameters() -> Any:
    """One token is drawn and thrown away; the prompt's own log-probabilities are what is wanted."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
    )


def output_of(result: Any, piece: Callable[[int], bytes], top: int) -> Output:
    """One of vLLM's RequestOutputs, as far as it is new."""
    first = result.outputs[0]
    logprobs = tuple(
        _logprob(token, entry, piece, top) for token, entry in zip(first.token_ids, first.logprobs or (), strict=False)
    )
    reason = _REASONS.get(first.finish_reason or "", FinishReason.STOP) if first.finish_reason else None
    return Output(
        token_ids=first.token_ids,
        finish_reason=reason,
        cached_tokens=result.num_cached_tokens or 0,
        logprobs=logprobs,
        error="vLLM could not go on with this request" if reason is FinishReason.ERROR else "",
    )


def _logprob(token: int, entry: dict[int, Any], piece: Callable[[int], bytes], top: int) -> TokenLogprob:
    alternatives = sorted(entry.items(), key=lambda one: one[1].rank or 0)[:top]
    return TokenLogprob(
        token_id=token,
        token=piece(token),
        logprob=float(entry[token].logprob),
        top=tuple(TopLogprob(token_id=one, token=piece(one), logprob=float(p.logprob)) for one, p in alternatives),
    )


def scores_of(tokens: list[int], prompt_logprobs: Iterable[dict[int, Any] | None]) -> tuple[float, ...]:
    """Log-probability of each token after the first."""
    entries = list(prompt_logprobs)[1:]
    return tuple(
        float(entry[token].logprob) for token, entry in zip(tokens[1:], entries, strict=True) if entry is not None
    )
