"""The bucket that keys and tenants are counted by, and the tenants' buckets."""

import pytest

from protos.contract.ids import RequestId
from router.domain.ids import Tenant
from router.domain.token_bucket import TokenBucket
from router.scheduling.admission import token_budget
from router.scheduling.admission.limits import AdmissionLimits, TenantLimits
from router.scheduling.admission.token_budget import TokenBudgets


def test_a_debt_is_paid_off_at_the_rate_of_the_bucket() -> None:
    """What a request cost is known only afterwards."""
    bucket = TokenBucket.full(60, now=0.0)
    bucket.spend(90)
    assert (bucket.wait_s(1), bucket.wait_s(60)) == (31.0, 90.0)
    bucket.refill(now=31.0)
    assert bucket.wait_s(1) == 0.0


def test_a_debt_is_bounded_where_its_amount_cannot_be_trusted() -> None:
    """No count, however wrong, locks anybody out for good."""
    bucket = TokenBucket.full(60, now=0.0)
    bucket.spend(1e9, max_debt_s=3600.0)
    assert bucket.wait_s(1) == 3601.0


def test_more_than_the_bucket_holds_passes_when_it_is_full() -> None:
    """Else it would never pass; what it took beyond is a debt."""
    budgets = TokenBudgets(AdmissionLimits(default_tenant=TenantLimits(tokens_per_minute=60.0)))
    assert budgets.take(Tenant("a"), RequestId("r1"), 120.0, now=0.0) == 0.0
    assert budgets.take(Tenant("a"), RequestId("r2"), 1.0, now=0.0) == 61.0
    assert budgets.take(Tenant("b"), RequestId("r3"), 1.0, now=0.0) == 0.0


def test_at_the_bound_full_buckets_go_and_debts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes under many names does not get rid of what he owes."""
    monkeypatch.setattr(token_budget, "MAX_TENANTS", 2)
    budgets = TokenBudgets(AdmissionLimits(default_tenant=TenantLimits(tokens_per_minute=60.0)))
    budgets.take(Tenant("spent"), RequestId("r4"), 120.0, now=0.0)
    budgets.take(Tenant("idle"), RequestId("r5"), 1.0, now=0.0)
    budgets.take(Tenant("new"), RequestId("r6"), 1.0, now=60.0)
    assert budgets.take(Tenant("spent"), RequestId("r7"), 60.0, now=60.0) == 60.0
    assert budgets.take(Tenant("idle"), RequestId("r8"), 60.0, now=60.0) == 0.0
    assert len(budgets._buckets) == 3
