"""Rule: `allsorts join --role draft` is paired by the router with a target of its tokenizer, over mutual TLS, and
answers no requests; the target's answers are right and some of them were proposed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from protos.contract.joining.join_token import parse_token
from protos.contract.request import Sampling
from protos.contract.worker import Hardware, Profile
from router.domain.clock import SystemClock
from router.domain.worker import WorkerState
from router.fleet.member import Member
from router.speculation.desk import DraftDesk
from tests.support.join_process import ask, joining
from tests.support.tls_pool import Head, head
from workers.config import ModelConfig, WorkerConfig
from workers.joining.join import join_fleet
from workers.server import serve

pytestmark = pytest.mark.model

LONG = Sampling(max_tokens=60, temperature=0.0, ignore_eos=True)
"""Enough for a draft on a busy machine to read the prompt before the answer ends."""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


def member(pool: Head, node: str) -> Member:
    return next(one for name in pool.membership.snapshot().workers if name.profile.node == node
                and (one := pool.membership.member(name.worker_id)))  # fmt: skip


def is_ready(pool: Head, node: str) -> Callable[[], bool]:
    return lambda: any(
        one.profile.node == node and one.state is WorkerState.READY for one in pool.membership.snapshot().workers
    )


async def test_a_draft_joins_is_paired_and_proposes(pool: Head, tmp_path: Path, model_files: dict[str, Path]) -> None:
    """The fleet knows its model and lists it nowhere; when it ends, the target is told and goes on alone."""
    desk = DraftDesk(pool.membership.snapshot, pool.membership.session_of, SystemClock())
    pool.membership.on_change(desk.look)
    state = tmp_path / "target"
    joined = await join_fleet(
        pool.enrol_address, parse_token(await pool.token()),
        Profile(node="target", hardware=Hardware(kind="cpu", name="x"), engine="llama.cpp"), state,
    )  # fmt: skip
    config = WorkerConfig(
        routers=joined.membership.replicas, node="target", state_dir=str(state), cache_dir=str(state), benchmark="off",
        models=(ModelConfig(name="m", path=str(model_files["q8_0"])),), slots=2, context_tokens=256, threads=1,
        options={"draft_length": 2, "exact": True}, drain_s=0.0, battery_price_s=0.0,
    )  # fmt: skip
    serving = asyncio.create_task(
        serve(config, worker_id=joined.membership.worker_id, security=joined.files.security(), signals=False)
    )
    try:
        await pool.changes_until(is_ready(pool, "target"), 60.0)
        target = member(pool, "target")
        alone = await ask(pool, target, LONG)
        line = (
            pool.enrol_address,
            "--token",
            await pool.token(),
            "--role",
            "draft",
            "--node",
            "draft",
            "--threads",
            "1",
        )
        model = ("--model", f"m={model_files['q4_k_m']}", "--slots", "4", "--context", "256", "--no-benchmark")
        async with joining(*line, *model, "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "draft")):
            await pool.changes_until(is_ready(pool, "draft"), 60.0)
            draft = member(pool, "draft")
            view = next(one for one in pool.membership.snapshot().workers if one.worker_id == draft.worker_id)
            assert (view.models, [one.model for one in view.drafts]) == ((), ["m"])
            await pool.changes_until(lambda: any(not one.paused for one in target.drafting.values()), 60.0)
            assert desk.notes.drafts_for == {draft.worker_id: (target.worker_id,)}

            def proposed() -> bool:
                return any(one.accepted for one in target.drafting.values())

            async with asyncio.timeout(60.0):
                while not proposed():
                    assert await ask(pool, target, LONG) == alone
            (report,) = target.drafting.values()
            assert report.draft_worker_id == draft.worker_id
        await pool.changes_until(lambda: not desk.notes.drafts_for, 60.0)
        assert await ask(pool, target, LONG) == alone
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
