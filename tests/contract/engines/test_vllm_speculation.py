"""vLLM with its own n-gram proposals: the same greedy answer in fewer steps, and the load says so.

Compared in float32: where two tokens are nearly as likely, a narrower type may decide otherwise in a wider batch.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.worker import Load
from tests.contract.engines.rigs import GREEDY, Rig, run_elsewhere
from workers.engines.base import ModelSpec
from workers.engines.table import make_engine

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(run_elsewhere("vllm")), reason=run_elsewhere("vllm")),
]

TEXT = "one apple, two pears, three plums, one apple, two pears, three plums, one apple, two"


async def answer(folder: Path, **options: str | int) -> tuple[list[int], Load]:
    """Forty greedy tokens after ``TEXT``, and the load after them."""
    spec = ModelSpec(
        name="m", path=str(folder), context_tokens=256, slots=2, options={"dtype": "float32", **options}
    )  # fmt: skip
    rig = Rig("vllm", make_engine("vllm"), spec)
    try:
        await rig.start()
        sampling = replace(GREEDY, max_tokens=40, ignore_eos=True)
        run = await rig.run(rig.job(TEXT, sampling=sampling, return_token_ids=True))
        return [token for delta in run.deltas for token in delta.token_ids], await rig.idle()
    finally:
        await rig.stop()


async def test_the_answer_is_the_one_without_and_comes_in_fewer_steps(awq_folder: Path) -> None:
    """Token by token; rounds, proposals and what was accepted are counted."""
    folder = awq_folder.with_name(awq_folder.name.replace("-awq", "-fp16"))
    plain, without = await answer(folder)
    quick, load = await answer(folder, speculate="ngram")
    assert quick == plain
    assert len(plain) == 40
    assert without.draft_rounds == 0
    assert 0 < load.draft_accepted <= load.draft_proposed <= 4 * load.draft_rounds
    assert load.step_sequence < without.step_sequence
