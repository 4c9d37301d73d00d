"""The baselines that the simulator compares with, beside the policies a router can be told to use."""

from loadtest.simulate.policies.cache_aware import CacheAware
from loadtest.simulate.policies.dynamo import Dynamo
from loadtest.simulate.policies.llmd import LlmD
from loadtest.simulate.policies.power_of_two import PowerOfTwo
from loadtest.simulate.policies.random_choice import RandomChoice
from loadtest.simulate.policies.weighted_least_request import WeightedLeastRequest
from loadtest.simulate.policies.weighted_round_robin import WeightedRoundRobin
from router.scheduling.placement.policies import POLICIES as SERVED
from router.scheduling.placement.policies import PolicyTable

POLICIES: PolicyTable = {
    "cost": SERVED["cost"],
    "round_robin": SERVED["round_robin"],
    "random": RandomChoice,
    "least_request": SERVED["least_request"],
    "power_of_two": PowerOfTwo,
    "weighted_round_robin": WeightedRoundRobin,
    "weighted_least_request": WeightedLeastRequest,
    "cache_aware": CacheAware,
    "llmd": LlmD,
    "dynamo": Dynamo,
}
"""All of them, in the order of the tables that benchmarks print."""
