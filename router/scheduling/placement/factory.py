"""Builds the placer a router replica (or a simulation) uses, from a policy's name."""

import random
from typing import Any

from router.capacity.speed import predict_speed
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.estimators.speed_model import SpeedPredictor
from router.scheduling.explain.record import RecordBook
from router.scheduling.placement.cost import CostWeights
from router.scheduling.placement.placer import ComposedPlacer
from router.scheduling.placement.policies import POLICIES, PolicyTable, build_policy
from router.scheduling.placement.quality import Quality, TabulatedQuality


def build_placer(
    policy: str = "cost",
    *,
    policies: PolicyTable = POLICIES,
    rng: random.Random,
    quality: Quality | None = None,
    predict_speed: SpeedPredictor | None = None,
    record_capacity: int = 4096,
    record_sample: float = 1.0,
    lambda_slo: float = 10.0,
    lambda_quality: float = 0.0,
    replicas: int = 1,
    prefix_blocks: int = 1_000_000,
    parameters: dict[str, Any] | None = None,
) -> ComposedPlacer:
    """A placer with its filters, learners and records.

    ``policy``: a name of ``policies``; ``parameters``: that policy's own. ``replicas``: router replicas
    that serve the same workers. ``record_sample``: share of decisions recorded. Raises ConfigError for an unknown
    policy or parameter.
    """
    weights = CostWeights(lambda_slo=lambda_slo, lambda_quality=lambda_quality, replicas=replicas)
    own = dict(parameters or {})
    if policy == "cost":
        own = {"lambda_slo": lambda_slo, "lambda_quality": lambda_quality, "replicas": float(replicas), **own}
    return ComposedPlacer(
        build_policy(policy, rng, policies, **own),
        quality=quality or TabulatedQuality(),
        predict_speed=predict_speed or _default_predictor(),
        weights=weights,
        records=RecordBook(capacity=record_capacity, sample=record_sample),
        prefixes=PrefixIndex(capacity_blocks=prefix_blocks),
    )


def _default_predictor() -> SpeedPredictor:
    return predict_speed
