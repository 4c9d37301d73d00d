"""The policies a router can be told to use, by name: one explicit table, from which the command line takes its list.

To add one: a module beside this file with a class that follows ``router.scheduling.placement.policy.Policy``, and one
line in ``POLICIES``. The baselines that only the simulator compares with are in ``loadtest.simulate.policies``.
"""

import difflib
import random
from collections.abc import Callable, Mapping
from typing import Any

from router.errors import ConfigError
from router.scheduling.placement.policies.cost import CostPolicy
from router.scheduling.placement.policies.least_request import LeastRequest
from router.scheduling.placement.policies.round_robin import RoundRobin
from router.scheduling.placement.policy import Policy

PolicyTable = Mapping[str, Callable[..., Policy]]

POLICIES: PolicyTable = {
    "cost": CostPolicy,
    "least_request": LeastRequest,
    "round_robin": RoundRobin,
}
"""Each is called with ``rng`` and its own parameters as keywords."""


def build_policy(name: str, rng: random.Random, policies: PolicyTable = POLICIES, **parameters: Any) -> Policy:
    """A policy from its name and parameters. Raises ConfigError for a name or parameter that does not exist."""
    if name not in policies:
        near = difflib.get_close_matches(name, policies, n=1)
        hint = f", did you mean {near[0]}" if near else ""
        raise ConfigError(f"unknown placement policy '{name}'{hint}: there are {', '.join(policies)}")
    try:
        return policies[name](rng=rng, **parameters)
    except TypeError as error:
        raise ConfigError(f"policy '{name}' does not take these parameters: {', '.join(parameters)}") from error
