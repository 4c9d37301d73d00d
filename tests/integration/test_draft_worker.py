"""Rule: a draft model in another engine changes how fast the real model answers, never what it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from protos.contract.ids import WorkerId
from protos.contract.request import Sampling
from tests.contract.engines.rigs import Rig, Run
from workers.drafting.link import DraftLink
from workers.drafting.listener import CannotListen, listen
from workers.drafting.service import DraftService
from workers.drafting.targets import PairedTargets
from workers.engines.base import ModelSpec, Refused
from workers.engines.llama_cpp.drafting.engine import LlamaCppDrafts
from workers.engines.llama_cpp.engine import LlamaCppEngine
from workers.engines.table import make_engine

pytestmark = pytest.mark.model

TEXT = "Once upon a time, in a village by the sea, there lived a"
WAYS = (
    Sampling(temperature=0.0, max_tokens=20, ignore_eos=True),
    Sampling(temperature=0.8, top_p=0.9, seed=6, max_tokens=20, ignore_eos=True),
    Sampling(temperature=0.0, max_tokens=20, logprobs=True, top_logprobs=2, presence_penalty=0.2, ignore_eos=True),
    Sampling(temperature=0.0, max_tokens=20, stop=("the",)),
)


@dataclass
class Tier:
    """A draft that listens, and a target that was told of it."""

    drafts: LlamaCppDrafts
    target: Rig
    targets: PairedTargets
    link: DraftLink

    @property
    def engine(self) -> LlamaCppEngine:
        assert isinstance(self.target.engine, LlamaCppEngine)
        return self.target.engine


def spec(path: Path, **options: bool | int | str) -> ModelSpec:
    return ModelSpec(name="m", path=str(path), context_tokens=512, slots=4, options={"exact": True, **options})


@asynccontextmanager
async def tier(files: dict[str, Path], *, length: int) -> AsyncIterator[Tier]:
    """The draft is the target's own weights at four bits; each round has ``length`` proposals, paying or not."""
    drafts, targets = LlamaCppDrafts(), PairedTargets()
    rig = Rig("llama.cpp", make_engine("llama.cpp"), spec(files["q8_0"]))
    listening = await listen(
        DraftService(lambda: drafts, targets, tls=False), "127.0.0.1:0", None, seen_from="127.0.0.1:1"
    )
    try:
        await drafts.load(ModelSpec(name="d", path=str(files["q4_k_m"]), context_tokens=512, slots=4), lambda *_: None)
        await rig.start()
        link = DraftLink(
            address=listening.address, draft_worker_id=WorkerId("draft"), own_worker_id=WorkerId("target"),
            tokenizer_fingerprint=rig.loaded.tokenizer_fingerprint, draft_length=length,
        )  # fmt: skip
        yield Tier(drafts, rig, targets, link)
    finally:
        await rig.stop()
        await listening.stop()
        await drafts.close()


async def answers(rig: Rig) -> list[Run]:
    runs = [await rig.submit(rig.job(TEXT, sampling=way, return_token_ids=True)) for way in WAYS]
    await asyncio.gather(*(run.end() for run in runs))
    return runs


def said(runs: list[Run]) -> list[object]:
    return [
        (run.text, [token for delta in run.deltas for token in delta.token_ids], run.deltas[-1].finish_reason)
        for run in runs
    ]


async def until_reached(engine: LlamaCppEngine) -> None:
    async with asyncio.timeout(60):
        while engine.draft_reports()[0].paused:
            await asyncio.sleep(0.01)


async def test_answers_are_the_same_and_some_of_them_were_proposed(model_files: dict[str, Path]) -> None:
    """Greedy, sampled, with penalties, log-probabilities and stops, all at once; before, with and after the draft."""
    async with tier(model_files, length=3) as one:
        expected = said(await answers(one.target))
        one.targets.tell("router-0", ["target"])
        one.engine.assign_draft("m", "", one.link)
        await until_reached(one.engine)
        async with asyncio.timeout(100):  # the draft reads the first time, as it answers; a busy one is late then
            while not 0 < one.engine.draft_reports()[0].accepted < one.engine.draft_reports()[0].proposed:
                assert said(await answers(one.target)) == expected
        (report,) = one.engine.draft_reports()
        assert report.token_s > 0.0
        one.engine.assign_draft("m", "", None)
        assert said(await answers(one.target)) == expected
        assert one.engine.draft_reports() == ()


async def test_only_paired_targets_of_the_same_tokenizer_may_ask(model_files: dict[str, Path]) -> None:
    """Others are told why, and go on without."""
    async with tier(model_files, length=3) as one:
        for link, why in (
            (one.link, "no router has paired"),
            (replace(one.link, own_worker_id=WorkerId("other"), tokenizer_fingerprint="another"), "tokenizer"),
            (replace(one.link, own_worker_id=WorkerId("other"), model="another"), "not loaded"),
        ):
            one.targets.tell("router-0", ["other"])
            one.engine.assign_draft("m", "", link)
            run = await one.target.run(one.target.job(TEXT, sampling=WAYS[0]))
            async with asyncio.timeout(60):
                while why not in (one.engine.draft_reports()[0].paused or ""):
                    run = await one.target.run(one.target.job(TEXT, sampling=WAYS[0]))
            assert run.text


async def test_plain_text_stays_on_this_machine(model_files: dict[str, Path]) -> None:
    """Neither side listens or dials beyond it without certificates."""
    service = DraftService(LlamaCppDrafts, PairedTargets(), tls=False)
    with pytest.raises(CannotListen, match="mutual TLS"):
        await listen(service, "0.0.0.0:0", None, seen_from="127.0.0.1:1")
    async with tier(model_files, length=3) as one:
        one.engine.assign_draft("m", "", replace(one.link, address="192.0.2.1:7"))
        async with asyncio.timeout(60):
            while "no certificate" not in one.engine.draft_reports()[0].paused:
                await asyncio.sleep(0.01)


async def test_a_model_that_does_not_speculate_refuses_a_draft(model_files: dict[str, Path]) -> None:
    """It says so before it is asked: the router pairs it with nobody."""
    rig = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=False))
    try:
        await rig.start()
        assert not rig.loaded.capabilities.takes_drafts
        link = DraftLink(
            address="127.0.0.1:1", draft_worker_id=WorkerId("d"), own_worker_id=WorkerId("t"), tokenizer_fingerprint="f"
        )
        with pytest.raises(Refused, match="takes no drafts"):
            rig.engine.assign_draft("m", "", link)
    finally:
        await rig.stop()


async def test_a_model_in_the_targets_own_process_proposes_too(model_files: dict[str, Path]) -> None:
    """The answers are those without it."""
    plain = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"]))
    quick = Rig(
        "llama.cpp",
        make_engine("llama.cpp"),
        spec(model_files["q8_0"], draft_model=str(model_files["q4_k_m"]), draft_length=2),
    )
    try:
        await plain.start()
        await quick.start()
        assert isinstance(quick.engine, LlamaCppEngine)
        (runner,) = quick.engine.held()
        assert said(await answers(quick)) == said(await answers(plain))
        assert 0 < runner.speculated.accepted < runner.speculated.proposed
    finally:
        await plain.stop()
        await quick.stop()
