"""A worker that the fleet controller starts, where a pool lets machines in by certificate only."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.contract.worker import Hardware, Profile
from router.app import RouterNode
from router.config import GrpcConfig, RouterConfig
from router.domain.worker import WorkerState
from router.fleet.node_runner import WORKER_LABEL, WayIn, WorkerSpec
from router.ray.worker_actor import WorkerActor
from tests.support.tls_pool import Head, head
from workers.config import WorkerConfig
from workers.joining.let_in import let_in
from workers.joining.pinning import Unreachable
from workers.session.enrolment import EnrolFailed

PROFILE_FILE = """machine = "h100-sxm"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 2048
slots = 8
[speed]
base_s = 0.01
per_sequence_s = 0.0004
per_context_token_s = 1e-7
prefill_tokens_per_s = 40000
prefill_base_s = 0.005
kv_capacity_tokens = 60000
chunk_tokens = 2048
"""
PROFILE = Profile(node="gpu-1", hardware=Hardware(kind="cpu", name="a CPU"), engine="simulated")


def spec(tmp_path: Path) -> WorkerSpec:
    file = tmp_path / "profile.toml"
    file.write_text(PROFILE_FILE)
    return WorkerSpec(
        name="sim-1",
        node_id="n1",
        engine="simulated",
        model="sim",
        quantization="q8_0",
        path=str(file),
        context_tokens=2048,
        slots=8,
        labels={"site": "lab"},
    )


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


async def test_a_router_gives_a_token_for_the_one_worker_that_is_started(tmp_path: Path) -> None:
    """With its labels: those it claims itself count for nothing where certificates are asked for."""
    grpc = GrpcConfig(port=0, enrol_port=0, install_port=0, plain_loopback=False)
    node = RouterNode(RouterConfig(grpc=grpc, state_dir=str(tmp_path / "state")))
    assert await node.way_in(spec(tmp_path)) == WayIn()
    await node.start()
    try:
        way = await node.way_in(spec(tmp_path))
        assert not way.routers
        here = WorkerConfig(enrol=way.enrol, token=way.token, state_dir=str(tmp_path / "worker"))
        joined = await let_in(here, PROFILE)
        assert joined.membership.replicas
        assert node._running is not None
        (row,) = await node._running.security.store.workers()
        assert row.labels == {"site": "lab", WORKER_LABEL: "sim-1"}
        another = WorkerConfig(enrol=way.enrol, token=way.token, state_dir=str(tmp_path / "another"))
        with pytest.raises(EnrolFailed, match="used already"):
            await let_in(another, PROFILE)
    finally:
        await node.stop()


async def test_the_actors_process_is_let_in_and_known_by_its_label(
    pool: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way from what the controller is given to a worker that serves over mutual TLS."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    wanted = spec(tmp_path)
    token = await pool.token(labels={**wanted.labels, WORKER_LABEL: wanted.name})
    actor = WorkerActor(wanted, WayIn(enrol=pool.enrol_address, token=token))
    try:
        await pool.changes_until(lambda: _ready(pool))
        assert dict(pool.membership.find("sim-1").profile.labels)[WORKER_LABEL] == "sim-1"
    finally:
        actor._stopping.set()
        await asyncio.to_thread(actor.end_worker, 0.2)


def _ready(pool: Head) -> bool:
    return [one.state for one in pool.membership.snapshot().workers] == [WorkerState.READY]


async def test_a_token_that_is_worth_nothing_any_more_does_not_keep_a_known_key_out(pool: Head, tmp_path: Path) -> None:
    """It was let in before; what is written in its configuration is old."""
    first = WorkerConfig(enrol=pool.enrol_address, token=await pool.token(), state_dir=str(tmp_path))
    joined = await let_in(first, PROFILE)
    assert (await let_in(first, PROFILE)).membership.worker_id == joined.membership.worker_id  # after a crash
    wrong = (await pool.token())[:-6] + "AAAAAA"
    later = WorkerConfig(enrol=pool.enrol_address, token=wrong, state_dir=str(tmp_path))
    assert (await let_in(later, PROFILE)).membership.worker_id == joined.membership.worker_id


async def test_a_router_that_is_away_is_waited_for_and_then_said(tmp_path: Path) -> None:
    """In one line; the actor starts the worker again later."""
    nobody = WorkerConfig(enrol="127.0.0.1:1", token="", state_dir=str(tmp_path))
    with pytest.raises(Unreachable, match="cannot be reached"):
        await let_in(nobody, PROFILE, patience_s=0.0)
