"""A router that has just started does not deny the models its pool served a moment ago."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.domain.placement import NoCandidate
from router.domain.request import ModelRef
from router.domain.worker import WorkerProfile
from router.fleet.membership import Membership
from router.fleet.served_models import keep_models, recall_models
from router.scheduling.claims import Claims
from router.scheduling.placement.factory import build_placer
from router.sessions.session import WorkerSession
from router.state.store import BackedStore, Store
from tests.support.fleets import instance, request
from tests.support.memory_backend import MemoryBackend
from tests.support.until import until_async

CONFIG = FleetConfig()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = BackedStore(MemoryBackend())
    yield store
    await store.close()


def joined(membership: Membership, clock: ManualClock, *models: str) -> None:
    profile = WorkerProfile(
        worker_id=WorkerId("w"),
        incarnation="1",
        node="w",
        hardware=Hardware(kind="cpu", name="test"),
        engine="simulated",
    )
    session = WorkerSession(session_id=1, worker_id=WorkerId("w"), clock=clock)
    membership.join(session, profile, tuple(instance(model=name) for name in models), cordoned=False)


async def kept(store: Store, membership: Membership) -> None:
    """Long enough for the first write."""
    task = asyncio.create_task(keep_models(store, membership, interval_s=0.0))
    await until_async(lambda: store.recall("models.served"), "the models are written down", every_s=0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def denies(membership: Membership, model: str, now: float) -> bool:
    placer = build_placer("cost", rng=random.Random(1))
    found = placer.place(request(model=ModelRef(name=model)), membership.snapshot(), now)
    assert isinstance(found, NoCandidate)
    return not found.known_model


async def test_what_was_served_is_waited_for_after_a_restart_and_what_never_was_is_denied(store: Store) -> None:
    clock = ManualClock()
    before = Membership(CONFIG, clock, Claims())
    joined(before, clock, "m", "n")
    await kept(store, before)

    after = Membership(CONFIG, clock, Claims())
    await recall_models(store, after)
    assert after.known_models() == ("m", "n")
    assert not denies(after, "m", clock.now())
    assert denies(after, "other", clock.now())


async def test_it_is_expected_no_longer_than_a_lost_worker_is_kept(store: Store) -> None:
    """And until then it is not forgotten by a router that restarts twice."""
    clock = ManualClock()
    membership = Membership(CONFIG, clock, Claims())
    membership.expect_models(["m"])
    await kept(store, membership)
    clock.advance(CONFIG.gone_after_s + 1)
    joined(membership, clock, "n")
    assert membership.known_models() == ("n",)
    assert membership.served_models() == ("n",)
    assert denies(membership, "m", clock.now())
    await recall_models(store, membership)
    assert membership.known_models() == ("n", "m")


async def test_a_store_that_never_heard_of_models_expects_none(store: Store) -> None:
    membership = Membership(CONFIG, ManualClock(), Claims())
    await recall_models(store, membership)
    assert membership.known_models() == ()
