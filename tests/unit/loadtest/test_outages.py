"""Workers that go away in a simulation: their streams move, as in the server, and nothing is lost or told twice."""

from functools import lru_cache

import pytest

from loadtest.simulate.cases import Case, fleet_of, traffic_at
from loadtest.simulate.outages import Outage, Outages
from loadtest.simulate.world import Setup, World
from router.scheduling.admission.limits import AdmissionLimits

pytestmark = pytest.mark.holds_claims

HOME_LAB = "deploy/fleets/home_lab.toml"
PATIENT = AdmissionLimits(shed_late=False, longest_wait_s=1e6, queue_limit=10_000, patience_s=1e6)


@lru_cache(maxsize=8)
def played(*outages: Outage, requests: int = 60, rate: float = 1.0) -> World:
    """The home lab under light traffic, with these outages; nobody is shed."""
    arrivals = traffic_at(Case(fleet=HOME_LAB, traffic="azure-like", policy="cost", requests=requests), rate)
    world = World(Setup(fleet=fleet_of(HOME_LAB), policy="cost", limits=PATIENT), arrivals)
    for outage in outages:
        Outages(world).plan(outage)
    world.run()
    for router in world.routers:
        router.scheduler.validate()
        ended = {int(claim.request_id) for claim in router.claims}  # the run ends before the last word is heard
        assert ended <= world.served.keys()
    return world


def busiest() -> str:
    """The node that answers most."""
    served = [one.node for one in played().served.values()]
    return max(set(served), key=served.count)


@pytest.mark.parametrize("announced", [False, True])
def test_streams_of_a_worker_that_goes_away_end_at_another(announced: bool) -> None:
    """Every request is answered once, to its last token; some of them at two workers."""
    node = busiest()
    world = played(Outage(at=20.0, node=node, announced=announced))
    assert len(world.served) == 60
    assert not any(one.shed for one in world.served.values())
    assert world.continued > 0
    late = [one for one in world.served.values() if one.dispatched_at > 21.0]
    assert late
    assert all(one.node != node for one in late)


def test_a_worker_that_comes_back_is_used_again() -> None:
    """After its breaker has let it prove itself."""
    node = busiest()
    world = played(Outage(at=10.0, node=node, lasts_s=5.0))
    assert any(one.node == node and one.dispatched_at > 16.0 for one in world.served.values())


def test_an_outage_costs_time_and_no_tokens() -> None:
    """The first token of a moved stream is the one its client saw, and its end lies later than without the outage."""
    node = busiest()
    without, with_one = played(), played(Outage(at=20.0, node=node))
    moved = [number for number, one in with_one.served.items() if number in with_one.done]
    assert moved
    for number in moved:
        one = with_one.served[number]
        assert one.first_at <= one.ended_at
        assert with_one.done[number] < one.arrival.output_tokens
        assert one.ended_at >= without.served[number].ended_at - 1e-9
