"""What the configuration alone decides: whether it holds, the placer and where its records go, admission's bounds."""

import random
from collections.abc import Callable
from pathlib import Path

import msgspec

from router.config import AdmissionConfig, RouterConfig, TenantConfig
from router.domain.ids import Tenant
from router.errors import ConfigError
from router.http.access.origins import AllowedOrigins
from router.http.dialects.shared.model_name import default_floors
from router.scheduling.admission.limits import AdmissionLimits, TenantLimits
from router.scheduling.explain.decision_files import of_rank
from router.scheduling.explain.decision_log import RecordLog
from router.scheduling.explain.record import to_record
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.placer import ComposedPlacer
from router.scheduling.placement.policies import build_policy


def check_config(config: RouterConfig) -> None:
    """What only rooms above the configuration can tell of it. Raises ConfigError; ``allsorts serve`` asks first."""
    default_floors(config.http.quality_floors)
    AllowedOrigins(config.http.cors_origins)
    try:
        build_policy(config.placement.policy, random.Random(0))
    except ConfigError as error:
        raise ConfigError(f"placement.policy: {error}") from None


def configured_placer(config: RouterConfig) -> ComposedPlacer:
    """The policy that is configured, with its weights and records."""
    placement = config.placement
    return build_placer(
        placement.policy,
        rng=random.Random(placement.seed),
        record_capacity=placement.record_capacity,
        record_sample=placement.record_sample,
        lambda_slo=placement.lambda_slo,
        lambda_quality=placement.lambda_quality,
        replicas=config.replicas,
    )


def kept_records(
    config: RouterConfig, placer: ComposedPlacer, *, rank: int, lost: Callable[[], None]
) -> RecordLog | None:
    """The placer's decisions, on disk too if the operator wants it; every replica writes a file of its own."""
    name = config.placement.record_file
    if not name:
        return None
    kept = RecordLog(of_rank(Path(name), rank), lost=lost)
    placer.records.closed = lambda decision: kept.put(msgspec.json.encode(to_record(decision)))
    return kept


def admission_limits(config: AdmissionConfig) -> AdmissionLimits:
    """Admission's bounds, as they are configured."""
    return AdmissionLimits(
        queue_limit=config.queue_limit,
        patience_s=config.patience_s,
        longest_wait_s=config.longest_wait_s,
        depth_per_slot=config.depth_per_slot,
        default_tenant=_share(config.default_tenant),
        tenants={Tenant(name): _share(one) for name, one in config.tenants.items()},
    )


def _share(config: TenantConfig) -> TenantLimits:
    return TenantLimits(
        weight=config.weight, queue_limit=config.queue_limit, tokens_per_minute=config.tokens_per_minute
    )
