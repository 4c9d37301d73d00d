"""Rule: what a router assigns reaches the core process, and how the draft does comes back, whether steps run or not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import ModelInstance
from tests.support.until import until_async
from workers.drafting.link import DraftLink, DraftTls
from workers.engines.vllm.drafting.assignment import Assigned, CoreEnd, EngineEnd, decode, encode

TARGET = ModelInstance(model="m", quantization="awq")
LINK = DraftLink(
    address="127.0.0.1:9", draft_worker_id=WorkerId("draft"), own_worker_id=WorkerId("target"),
    tokenizer_fingerprint="abc", draft_length=3,
)  # fmt: skip


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[tuple[EngineEnd, CoreEnd]]:
    engine = EngineEnd(f"ipc://{tmp_path}/drafts")
    core = CoreEnd(f"ipc://{tmp_path}/drafts", 100)
    try:
        yield engine, core
    finally:
        await engine.close()
        await asyncio.to_thread(core.close)


@pytest.mark.parametrize(
    "link",
    [None, LINK, replace(LINK, tls=DraftTls(authority=Path("/ca.pem"), certificate=Path("c.pem"), key=Path("k.pem")))],
)
def test_an_assignment_crosses_whole(link: DraftLink | None) -> None:
    """Certificates by their paths: the core reads the files itself."""
    told = Assigned("m", "awq", link)
    assert decode(encode(told)) == told


async def test_a_draft_is_assigned_reported_on_and_taken_away(ends: tuple[EngineEnd, CoreEnd]) -> None:
    """Nobody listens at port 9: the report says so, of this draft and no other."""
    engine, core = ends
    assert engine.report is None
    engine.assign(TARGET, LINK)
    told = engine.report
    assert told is not None
    assert told.paused

    def heard() -> DraftReport | None:
        report = engine.report
        return report if report is not None and "127.0.0.1:9" in report.paused else None

    report = await until_async(heard, "the core's report", within_s=60.0)
    assert (report.model, report.quantization, report.draft_worker_id) == ("m", "awq", "draft")
    assert core.use is not None
    assert core.use.fixed == 3
    engine.assign(TARGET, None)
    await until_async(lambda: core.use is None, "the core hears", within_s=60.0)
    assert engine.report is None


async def test_a_hook_that_failed_takes_no_more_drafts_and_says_why(ends: tuple[EngineEnd, CoreEnd]) -> None:
    """The router hears the reason with the next report."""
    engine, core = ends
    engine.assign(TARGET, LINK)
    await until_async(lambda: core.use is not None, "the core hears", within_s=60.0)
    core.off("the hook failed: x")
    assert core.use is None
    await until_async(
        lambda: engine.report is not None and engine.report.paused == "the hook failed: x", "it is told", within_s=60.0
    )
