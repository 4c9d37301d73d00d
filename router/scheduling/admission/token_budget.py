"""Tokens per minute of each tenant, as a bucket that refills evenly and holds one minute's worth."""

from router.domain.ids import Tenant
from router.scheduling.admission.limits import AdmissionLimits

MAX_TENANTS = 16_384
"""Buckets kept; at the bound the full ones, which are as good as new, are dropped."""


class TokenBudgets:
    """Only tenants with a limit get a bucket."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._buckets: dict[Tenant, tuple[float, float]] = {}  # tokens left, at

    def take(self, tenant: Tenant, tokens: float, now: float) -> float:
        """Take ``tokens``; 0 when they were there, else the seconds until they are (and nothing is taken).

        A request larger than the whole bucket passes when the bucket is full.
        """
        per_minute = self._limits.of(tenant).tokens_per_minute
        if per_minute is None:
            return 0.0
        left, at = self._buckets.get(tenant, (per_minute, now))
        left = min(per_minute, left + (now - at) * per_minute / 60.0)
        wanted = min(tokens, per_minute)
        if wanted > left:
            self._buckets[tenant] = (left, now)
            return (wanted - left) * 60.0 / max(per_minute, 1e-9)
        self._buckets[tenant] = (left - tokens, now)
        if len(self._buckets) > MAX_TENANTS:
            self._buckets = {
                t: b for t, b in self._buckets.items() if b[0] < (self._limits.of(t).tokens_per_minute or 0)
            }
        return 0.0
