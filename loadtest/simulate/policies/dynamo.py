"""Dynamo's KV router cost.

ai-dynamo/dynamo, docs "KV Cache Routing" and lib/llm kv_router ``DefaultWorkerSelector``:
``logit = overlap_score_weight * potential_prefill_blocks + potential_decode_blocks``, lower is better. Prefill
blocks are the tokens queued for prefill plus this prompt's uncached ones, decode blocks those the worker would hold
with the request, both over the block size. Temperature 0 takes the least, drawing among equals; above 0 the logits,
normalised by their range, are sampled with a softmax.
"""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless

_TIE = 1e-9


class Dynamo(Stateless):
    """``block_tokens``: its default KV block size is 16."""

    name = "dynamo"
    whole_pool = True

    def __init__(
        self,
        *,
        rng: random.Random,
        overlap_score_weight: float = 1.0,
        temperature: float = 0.0,
        block_tokens: float = 16.0,
    ) -> None:
        self._rng = rng
        self._overlap = overlap_score_weight
        self._temperature = temperature
        self._block = block_tokens

    def parameters(self) -> dict[str, float]:
        """Weight, temperature and block size."""
        return {
            "overlap_score_weight": self._overlap,
            "temperature": self._temperature,
            "block_tokens": self._block,
        }

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """One draw per candidate, above 0 and below 1."""
        del facts
        draw = self._rng.random
        return {"draw": np.array([max(draw(), 1e-12) for _ in range(len(candidates))])}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """The logit; with a temperature, plus Gumbel noise, which samples exactly the softmax."""
        data, block = candidates.data, self._block
        claimed = data[Column.INFLIGHT_PREFILL]
        new = facts.prompt_tokens - data[Column.CACHED_TOKENS]
        prefill = (data[Column.PREFILL_PENDING] + claimed + new) / block
        decode = np.ceil((data[Column.CONTEXT_HELD] + claimed + facts.prompt_tokens) / block)
        logit = self._overlap * prefill + decode
        terms = {"prefill_blocks": prefill, "decode_blocks": decode, "logit": logit}
        if self._temperature <= 0.0:
            return Scores(logit + _TIE * inputs["draw"], terms)
        span = logit.max() - logit.min()
        scaled = (logit - logit.min()) / (span if span > 0.0 else 1.0) / self._temperature
        return Scores(scaled + np.log(-np.log(inputs["draw"])), terms)
