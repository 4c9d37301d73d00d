"""What keys may still use: requests and tokens per minute, as buckets that refill evenly. Pure.

What a request will cost is known when it has ended. So what is expected of it is taken when it begins, and the
difference given back, or taken, at its end: many requests at once find no more than one after the other would.
"""

import asyncio
from dataclasses import dataclass, field

from router.domain.principal import Principal
from router.domain.request import InferenceRequest
from router.domain.token_bucket import TokenBucket

MAX_DEBT_S = 3600.0
"""Tokens are counted by workers, after the fact: no count, however wrong, locks a key out for longer than this."""

UNKNOWN_OUTPUT_TOKENS = 256
"""Expected of a request of which nothing tells how long its answer will be."""


@dataclass(slots=True)
class Meters:
    """Of one key; None: no limit."""

    requests: TokenBucket | None
    tokens: TokenBucket | None
    sharing: asyncio.Lock = field(default_factory=asyncio.Lock)  # with other replicas

    @classmethod
    def of(cls, principal: Principal, now: float) -> "Meters":
        """Full."""
        requests, tokens = (
            None if limit is None else TokenBucket.full(limit, now)
            for limit in (principal.requests_per_minute, principal.tokens_per_minute)
        )
        return cls(requests, tokens)

    def refill(self, now: float) -> None:
        """Catch up with the clock."""
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.refill(now)


class Reservation:
    """Tokens taken for one request before it began."""

    __slots__ = ("_bucket", "_reserved")

    def __init__(self, bucket: TokenBucket | None, tokens: float) -> None:
        self._bucket = bucket
        self._reserved = tokens
        if bucket is not None:
            bucket.spend(tokens, max_debt_s=MAX_DEBT_S)

    def settle(self, used: float) -> None:
        """The request ended and used so many. Once; a second time does nothing."""
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.spend(used - self._reserved, max_debt_s=MAX_DEBT_S)


def expected_tokens(request: InferenceRequest) -> int:
    """Prompt and output of a request, before a worker has counted anything."""
    output = request.expected_output_tokens or UNKNOWN_OUTPUT_TOKENS
    limit = request.sampling.max_tokens
    return request.prompt_tokens_estimate + (output if limit is None else min(limit, output))
