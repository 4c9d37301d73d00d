"""The bounds of admission: how much waits, how long, and whose share is how large."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.domain.ids import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """One tenant's share. ``weight`` 2 gets twice the tokens of ``weight`` 1 when both want more than there is."""

    weight: float = 1.0
    queue_limit: int | None = None  # requests waiting; None: only the limit over all
    tokens_per_minute: float | None = None  # prompt and expected output together

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f"a tenant's weight is above zero, not {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """See each field. ``depth_per_slot`` infinite and ``shed_late`` False is a router without admission."""

    queue_limit: int = 1024  # requests waiting over all tenants
    patience_s: float = 20.0  # how long a request waits for a worker of its model to come back
    longest_wait_s: float = 60.0  # in the queue, for requests without a TTFT target or a nearer deadline
    depth_per_slot: float = 0.125  # requests waiting inside an engine per slot before the router holds them
    shed_late: bool = True  # refuse what is predicted to miss its TTFT target
    late_factor: float = 1.0  # ... by this factor over the target
    hold_factor: float = 0.8  # hold a request back while it would bring the TPOT to this factor of its target
    hold_violations: float = 0.1  # ... or make so many of those running miss it, expected
    hold_by_size: float = 0.4  # both times (mean size / its own size) to this power: the dearer, the earlier
    default_tenant: TenantLimits = field(default_factory=TenantLimits)
    tenants: Mapping[Tenant, TenantLimits] = field(default_factory=dict)

    def of(self, tenant: Tenant) -> TenantLimits:
        """A tenant's own limits, or the default."""
        return self.tenants.get(tenant, self.default_tenant)
