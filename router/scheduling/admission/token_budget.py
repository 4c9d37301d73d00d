"""Tokens per minute of each tenant, as a bucket that refills evenly and holds one minute's worth."""

from router.domain.ids import Tenant
from router.domain.token_bucket import TokenBucket
from router.scheduling.admission.limits import AdmissionLimits

MAX_TENANTS = 16_384
"""Buckets kept; when one more is wanted, the full ones, which are as good as new, are dropped."""


class TokenBudgets:
    """Only tenants with a limit get a bucket."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._buckets: dict[Tenant, TokenBucket] = {}

    def take(self, tenant: Tenant, tokens: float, now: float) -> float:
        """Take ``tokens``; 0 when they were there, else the seconds until they are (and nothing is taken).

        A request larger than the whole bucket passes when the bucket is full.
        """
        bucket = self._buckets.get(tenant) or self._new_bucket(tenant, now)
        if bucket is None:
            return 0.0
        bucket.refill(now)
        if (wait_s := bucket.wait_s(tokens)) == 0.0:
            bucket.spend(tokens)
        return wait_s

    def _new_bucket(self, tenant: Tenant, now: float) -> TokenBucket | None:
        per_minute = self._limits.of(tenant).tokens_per_minute
        if per_minute is None:
            return None
        if len(self._buckets) >= MAX_TENANTS:
            for one in self._buckets.values():
                one.refill(now)
            self._buckets = {name: one for name, one in self._buckets.items() if not one.is_full}
        bucket = self._buckets[tenant] = TokenBucket.full(per_minute, now)
        return bucket
