"""Tokens per minute of each tenant, as a bucket that refills evenly and holds one minute's worth."""

from protos.contract.ids import RequestId
from router.domain.ids import Tenant
from router.domain.token_bucket import TokenBucket
from router.scheduling.admission.limits import AdmissionLimits

MAX_TENANTS = 16_384
"""Buckets kept; when one more is wanted, the full ones, which are as good as new, are dropped."""


MAX_DEBT_S = 3600.0
"""What workers counted is believed for so long."""


class TokenBudgets:
    """Only tenants with a limit get a bucket."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._buckets: dict[Tenant, TokenBucket] = {}
        self._taken: dict[RequestId, float] = {}  # of requests that have not ended

    def take(self, tenant: Tenant, request_id: RequestId, tokens: float, now: float) -> float:
        """Take ``tokens`` for a request, until ``settle``; 0 when they were there, else the seconds until they are (and
        nothing is taken). A request larger than the whole bucket passes when the bucket is full.
        """
        bucket = self._buckets.get(tenant) or self._new_bucket(tenant, now)
        if bucket is None:
            return 0.0
        bucket.refill(now)
        if (wait_s := bucket.wait_s(tokens)) == 0.0:
            bucket.spend(tokens)
            self._taken[request_id] = tokens
        return wait_s

    def settle(self, tenant: Tenant, request_id: RequestId, used: float) -> None:
        """A request has ended and used so many, whatever was taken for it. Unknown ids are ignored."""
        taken, bucket = self._taken.pop(request_id, None), self._buckets.get(tenant)
        if taken is not None and bucket is not None:
            bucket.spend(used - taken, max_debt_s=MAX_DEBT_S)

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
