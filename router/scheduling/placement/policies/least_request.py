"""Least request: the candidate with the fewest requests outstanding from this router.

As nginx ``least_conn`` and Envoy's LEAST_REQUEST with ``choice_count`` as large as the pool: the balancer counts its
own active requests. Among equals one is drawn at random (Envoy) so that an idle pool is not filled from one end.
"""

import random

import numpy as np

from router.scheduling.placement.candidates import Candidates, Floats, RequestFacts, Scores
from router.scheduling.placement.columns import Column
from router.scheduling.placement.policy import Inputs, Stateless


class LeastRequest(Stateless):
    """Ties are broken by a draw, kept in the record."""

    name = "least_request"

    def __init__(self, *, rng: random.Random) -> None:
        self._rng = rng

    def inputs(self, candidates: Candidates, facts: RequestFacts) -> dict[str, Floats]:
        """A fraction below one per candidate, which decides among equals only."""
        del facts
        draw = self._rng.random
        return {"tie": np.array([draw() for _ in range(len(candidates))])}

    def score(self, candidates: Candidates, facts: RequestFacts, inputs: Inputs) -> Scores:
        """Outstanding requests plus the tie-breaking fraction."""
        del facts
        outstanding = candidates.data[Column.OUTSTANDING]
        return Scores(outstanding + inputs["tie"], {"outstanding": outstanding})
