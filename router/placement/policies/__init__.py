"""The policies by name: one explicit table, from which the command line takes its list."""

import random
from collections.abc import Callable
from typing import Any

from router.placement.policies.cache_aware import CacheAware
from router.placement.policies.cost import CostPolicy
from router.placement.policies.dynamo import Dynamo
from router.placement.policies.least_request import LeastRequest
from router.placement.policies.llmd import LlmD
from router.placement.policies.power_of_two import PowerOfTwo
from router.placement.policies.random_choice import RandomChoice
from router.placement.policies.round_robin import RoundRobin
from router.placement.policies.weighted_least_request import WeightedLeastRequest
from router.placement.policies.weighted_round_robin import WeightedRoundRobin
from router.placement.policy import Policy

SCORERS: dict[str, Callable[..., Policy]] = {
    "cost": CostPolicy,
    "round_robin": RoundRobin,
    "random": RandomChoice,
    "least_request": LeastRequest,
    "power_of_two": PowerOfTwo,
    "weighted_round_robin": WeightedRoundRobin,
    "weighted_least_request": WeightedLeastRequest,
    "cache_aware": CacheAware,
    "llmd": LlmD,
    "dynamo": Dynamo,
}
"""Each is called with ``rng`` and its own parameters as keywords."""


def build_policy(name: str, rng: random.Random, **parameters: Any) -> Policy:
    """A policy from its name and parameters. Raises ValueError for a name or parameter that does not exist."""
    factory = SCORERS.get(name)
    if factory is None:
        raise ValueError(f"unknown placement policy '{name}'; the policies are {', '.join(SCORERS)}")
    try:
        return factory(rng=rng, **parameters)
    except TypeError as error:
        raise ValueError(f"policy '{name}' does not take these parameters: {', '.join(parameters)}") from error
