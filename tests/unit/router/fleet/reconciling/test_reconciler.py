"""Who leads, and what survives: a reconciler over a store and a fleet without workers."""

import asyncio
from typing import Any

import pytest

from protos.contract.ids import WorkerId
from protos.contract.worker import Hardware, InstanceState, ModelInstance
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.domain.worker import WorkerProfile
from router.fleet.desired.values import Copies, DesiredModel, DesiredState, Rules
from router.fleet.member import Member
from router.fleet.membership import Membership
from router.fleet.reconciling.desk import FleetDesk
from router.fleet.reconciling.reconciler import CALLED_WITHIN_S, SILENT_S, Changed, Reconciler
from router.scheduling.claims import Claims
from router.state.store import BackedStore
from tests.support.memory_backend import MemoryBackend
from tests.support.until import until_async

WANTED = DesiredState(models=(DesiredModel(name="m", copies=Copies(min=0, max=1)),), rules=Rules(keep_alive_most_s=60))


class Bench:
    """One replica's reconciler, and how often a controller was looked for."""

    def __init__(self, store: BackedStore | None = None, *, led: bool = False) -> None:
        self.clock = ManualClock(100.0)
        claims = Claims()
        self.membership = Membership(FleetConfig(), self.clock, claims)
        self.store = store or BackedStore(MemoryBackend())
        self.looked_for = 0
        desk = FleetDesk(membership=self.membership, claims=claims, clock=self.clock)
        controller = self._look_for if led else None
        self.one = Reconciler(store=self.store, desk=desk, clock=self.clock, controller=controller)

    async def _look_for(self) -> None:
        self.looked_for += 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_was_applied_is_there_after_a_restart_and_at_other_replicas(bench: Bench) -> None:
    """From the store; requests for it may wait from then on."""
    assert await bench.one.apply(WANTED, 0) == 1
    other = Bench(bench.store)
    assert "m" not in other.membership.snapshot().wanted
    await other.one.refresh()
    assert (other.one.version, other.one.desired) == (1, WANTED)
    assert "m" in other.membership.snapshot().wanted
    assert "m" in other.membership.known_models()
    with pytest.raises(Changed):
        await other.one.apply(DesiredState(), 0)


async def test_a_reconciler_without_controller_leads_itself(bench: Bench) -> None:
    """As with ``--without-ray``."""
    task = asyncio.create_task(bench.one.run())
    await bench.one.apply(WANTED, 0)
    await until_async(lambda: bench.membership.snapshot().wanted, "it has planned")
    task.cancel()


async def test_a_controller_that_is_silent_is_looked_for_and_then_done_without() -> None:
    """One that asks in time is left to lead."""
    bench = Bench(led=True)
    await bench.one.apply(WANTED, 0)
    look = bench.one._look
    await look()
    assert bench.looked_for == 0
    bench.clock.advance(CALLED_WITHIN_S + 0.1)
    await look()
    assert bench.looked_for == 1
    await bench.one.driven((), ())
    await look()
    assert bench.looked_for == 1
    bench.clock.advance(SILENT_S + 0.1)
    await look()
    assert bench.looked_for == 2


async def test_keep_alive_stays_within_the_operators_bounds(bench: Bench) -> None:
    """And means nothing for models that nobody wants."""
    await bench.one.apply(WANTED, 0)
    for asked, granted in ((float("inf"), 60.0), (5.0, 5.0), (0.0, 0.0)):
        bench.one.keep_alive("m", asked)
        assert bench.one.observe().keep_alive == {"m": granted}
    bench.one.keep_alive("stranger", 5.0)
    assert bench.one.observe().keep_alive == {"m": 0.0}


def box(bench: Bench) -> Member:
    """A machine that takes models, and has joined with none."""
    profile = WorkerProfile(
        worker_id=WorkerId("w"),
        incarnation="1",
        node="box",
        hardware=Hardware(kind="cpu", name="cpu"),
        engine="llama.cpp",
        takes_models=True,
    )
    return bench.membership.join(StillSession(), profile, (), cordoned=False)  # type: ignore[arg-type]


async def test_what_a_request_waits_for_is_told(bench: Bench) -> None:
    """From nothing, over the load, to a worker that serves it."""
    assert bench.one.coming("m") == ""
    await bench.one.apply(WANTED, 0)
    assert bench.one.coming("m") == "m is to be loaded"
    member = box(bench)
    for state, share, told in (
        (InstanceState.LOADING, 0.4, "m is loading on box, 40%"),
        (InstanceState.READY, 1.0, ""),
        (InstanceState.UNLOADING, 0.0, "m is unloading on box"),
    ):
        bench.membership.set_model(member, ModelInstance(model="m", quantization="q8_0", state=state), (share, ""))
        assert bench.one.coming("m") == told
        assert bool(bench.one.stays()) is False  # nobody ordered it: it just stays
    told = await bench.one.status()
    assert told["models"][0]["copies"][0]["state"] == "unloading"
    assert not told["settled"]


@pytest.mark.parametrize(
    ("more", "stays"),
    [({}, 40.0), ({"pin": True}, None), ({"copies": Copies(min=1, max=1)}, None), ({"idle_s": 10.0}, 0.0)],
)
async def test_how_long_a_model_stays_is_told(bench: Bench, more: dict[str, Any], stays: float | None) -> None:
    """From its last use, as the file or a client says; one that is pinned or must be there just stays."""
    one = DesiredModel(**{"name": "m", "copies": Copies(min=0, max=1), "idle_s": 60.0, **more})
    await bench.one.apply(DesiredState(models=(one,)), 0)
    member = box(bench)
    loaded = ModelInstance(model="m", quantization="q8_0", state=InstanceState.READY, ordered="o")
    bench.membership.set_model(member, loaded)
    bench.one.observe()
    bench.clock.advance(20.0)
    assert bench.one.stays() == ({} if stays is None else {"m": stays})
    bench.one.keep_alive("m", 30.0)
    assert bench.one.stays() == ({} if stays is None else {"m": 10.0})


class StillSession:
    """Open, and nothing is sent over it."""

    worker_id = WorkerId("w")
    session_id = 1
    valid_until = float("inf")
    last_heard = 0.0
    open_attempts = 0
