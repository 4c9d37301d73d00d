"""Cache-aware, the SGLang router's rule.

sgl-project/sglang, sgl-router ``cache_aware``: loads are imbalanced when max - min > balance_abs_threshold and
max > min * balance_rel_threshold; then the least loaded worker is taken. Otherwise the worker with the longest
matching prefix is taken when the match is more than cache_threshold of the prompt, else the one whose tree is
smallest, which has most cache to spare. Defaults are those of its README: 0.5, 32, 1.0001.
"""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless


class CacheAware(Stateless):
    """Load is the router's count of outstanding requests, tree size the tokens it sent that were new to the worker."""

    name = "cache_aware"
    whole_pool = True

    def __init__(
        self,
        *,
        rng: random.Random,
        cache_threshold: float = 0.5,
        balance_abs_threshold: float = 32,
        balance_rel_threshold: float = 1.0001,
        max_tree_size: float = 2.0**24,
    ) -> None:
        del rng
        self._cache_threshold = cache_threshold
        self._abs = balance_abs_threshold
        self._rel = balance_rel_threshold
        self._max_tree = max_tree_size
        self._tree: dict[InstanceKey, float] = {}

    def parameters(self) -> dict[str, float]:
        """The thresholds."""
        return {
            "cache_threshold": self._cache_threshold,
            "balance_abs_threshold": self._abs,
            "balance_rel_threshold": self._rel,
            "max_tree_size": self._max_tree,
        }

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """Tree sizes, in tokens."""
        del facts
        return {"tree": np.array([self._tree.get(key, 0.0) for key in candidates.keys])}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """Load when imbalanced; else unmatched share, or tree size when nobody matches enough."""
        load, tree = candidates.data[Column.OUTSTANDING], inputs["tree"]
        match = candidates.data[Column.CACHED_TOKENS] / facts.prompt_tokens
        terms = {"load": load, "match": match, "tree": tree}
        low, high = load.min(), load.max()
        if high - low > self._abs and high > low * self._rel:
            return Scores(load.copy(), terms)
        if match.max() > self._cache_threshold:
            return Scores(1.0 - match, terms)
        return Scores(tree.copy(), terms)

    def dispatched(self, candidates: Candidates, index: int, facts: RequestFacts) -> None:
        """The worker's tree grows by what it did not hold, up to the size at which the router evicts."""
        new = facts.prompt_tokens - float(candidates.data[Column.CACHED_TOKENS, index])
        key = candidates.keys[index]
        self._tree[key] = min(self._tree.get(key, 0.0) + max(new, 0.0), self._max_tree)

    def forget(self, key: InstanceKey) -> None:
        """The instance is gone, and its tree."""
        self._tree.pop(key, None)
