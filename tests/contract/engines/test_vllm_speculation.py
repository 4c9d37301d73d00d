"""vLLM that speculates: the same greedy answer in fewer steps, and the load says so. By its own n-grams, by the text
through its scheduler's hook, and by a draft elsewhere, which is heard over gRPC in vLLM's core process.

Compared in float32: where two tokens are nearly as likely, a narrower type may decide otherwise in a wider batch. With
drafts from outside answers go to the end of the context, where there is no room for proposals.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.request import Sampling
from tests.contract.engines.rigs import Rig, Run, run_elsewhere
from workers.drafting.link import DraftLink
from workers.drafting.listener import listen
from workers.drafting.room import Answer, DraftRoom
from workers.drafting.service import DraftService
from workers.drafting.targets import PairedTargets
from workers.engines.base import ModelSpec
from workers.engines.table import make_engine

if TYPE_CHECKING:
    from workers.engines.vllm.engine import VllmEngine  # needs vLLM

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(run_elsewhere("vllm")), reason=run_elsewhere("vllm")),
]

TEXT = "one apple, two pears, three plums, one apple, two pears, three plums, one apple, two"
PROSE = "The harbour was quiet that morning, and the old man looked at"
CONTEXT_TOKENS = 80
TO_THE_END = Sampling(temperature=0.0, ignore_eos=True)
FORTY = Sampling(temperature=0.0, max_tokens=40, ignore_eos=True)
LEFT_ALONE = Sampling(temperature=1.0, top_k=1, seed=1, ignore_eos=True)
"""Greedy as well, but with a seed."""
DRAFT = WorkerId("draft")


@dataclass
class Oracle:
    """A draft that knows what the target will say. Implements ``DraftRooms`` and ``DraftRoom``."""

    prompt_tokens: int
    answer: list[int]
    silent: bool = False
    asked: int = 0
    _targets: dict[str, Answer] = field(default_factory=dict)

    def room_for(self, model: str, quantization: str, tokenizer_fingerprint: str) -> DraftRoom:
        del model, quantization, tokenizer_fingerprint
        return self

    def enter(self, target: str, answer: Answer) -> None:
        self._targets[target] = answer

    def tell(self, target: str, contexts: Sequence[DraftContext]) -> None:
        self.asked += len(contexts)
        for one in contexts:
            at = one.position - self.prompt_tokens
            if one.draft_length and not self.silent:
                tokens = tuple(self.answer[at : at + one.draft_length])
                self._targets[target]([
                    DraftProposal(request_id=one.request_id, epoch=one.epoch, position=one.position, token_ids=tokens,
                                  compute_s=0.001)
                ])  # fmt: skip

    def leave(self, target: str) -> None:
        self._targets.pop(target, None)


@contextlib.asynccontextmanager
async def loaded(awq_folder: Path, **options: str | int) -> AsyncIterator[Rig]:
    """The model in full precision."""
    folder = awq_folder.with_name(awq_folder.name.replace("-awq", "-fp16"))
    spec = ModelSpec(
        name="m", path=str(folder), context_tokens=CONTEXT_TOKENS, slots=2, options={"dtype": "float32", **options}
    )  # fmt: skip
    rig = Rig("vllm", make_engine("vllm"), spec)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


async def answer(rig: Rig, text: str = TEXT, sampling: Sampling = TO_THE_END) -> tuple[list[int], Run, int]:
    """What it says to ``text``, and in how many steps."""
    before = rig.engine.load_figures().step_sequence
    run = await rig.run(rig.job(text, sampling=sampling, return_token_ids=True))
    load = await rig.idle()
    return [token for delta in run.deltas for token in delta.token_ids], run, load.step_sequence - before


async def test_by_its_own_ngrams_the_answer_is_the_same_and_comes_in_fewer_steps(awq_folder: Path) -> None:
    """Token by token; rounds, proposals and what was accepted are counted."""
    async with loaded(awq_folder) as rig:
        plain, _, steps = await answer(rig, sampling=FORTY)
        assert rig.engine.load_figures().draft_rounds == 0
    async with loaded(awq_folder, speculate="ngram") as rig:
        assert not rig.loaded.capabilities.takes_drafts
        quick, _, fewer = await answer(rig, sampling=FORTY)
        load = rig.engine.load_figures()
    assert quick == plain
    assert len(plain) == 40
    assert 0 < load.draft_accepted <= load.draft_proposed <= 4 * load.draft_rounds
    assert fewer < steps


async def test_drafts_from_outside_leave_the_answer_as_it_is(awq_folder: Path) -> None:
    """By the text, by a draft elsewhere that is right, and by one that never answers. One core for all: who has a seed
    is proposed nothing, and so says what the target says alone.
    """
    from workers.engines.vllm.engine import VllmEngine

    async with loaded(awq_folder, speculate="tier") as rig:
        engine = rig.engine
        assert isinstance(engine, VllmEngine)
        assert rig.loaded.capabilities.takes_drafts
        plain, _, _ = await answer(rig, TEXT, LEFT_ALONE)
        prose, run, steps = await answer(rig, PROSE, LEFT_ALONE)
        assert engine.load_figures().draft_rounds == 0
        assert run.accepted is not None
        assert (await answer(rig))[0] == plain

        oracle, targets = Oracle(run.accepted.prompt_tokens, prose), PairedTargets()
        targets.tell("router", (WorkerId("target"),))
        async with drafting(oracle, targets) as address:
            link = DraftLink(
                address=address, draft_worker_id=DRAFT, own_worker_id=WorkerId("target"), draft_length=3,
                tokenizer_fingerprint=rig.loaded.tokenizer_fingerprint,
            )  # fmt: skip
            engine.assign_draft(rig.loaded.model, rig.loaded.quantization, link)
            fewest = steps
            while not reported(engine).accepted or fewest >= steps:
                said, _, taken = await answer(rig, PROSE)
                assert said == prose
                fewest = min(fewest, taken)
            oracle.silent = True
            assert (await answer(rig, PROSE))[0] == prose
            engine.assign_draft(rig.loaded.model, rig.loaded.quantization, None)
            assert not engine.draft_reports()


@contextlib.asynccontextmanager
async def drafting(oracle: Oracle, targets: PairedTargets) -> AsyncIterator[str]:
    """Where it listens."""
    door = await listen(DraftService(lambda: oracle, targets, tls=False), "127.0.0.1:0", None, seen_from="127.0.0.1:1")
    try:
        yield door.address
    finally:
        await door.stop()


def reported(engine: "VllmEngine") -> DraftReport:
    (report,) = engine.draft_reports()
    return report
