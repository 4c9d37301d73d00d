"""Greedy output on real weights does not depend on what else runs."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.request import ContinueFrom, Sampling
from tests.conftest import MODELS
from tests.contract.engines.rigs import Rig, Run
from workers.engines.base import ModelSpec
from workers.engines.table import make_engine
from workers.models.smollm2 import make

pytestmark = pytest.mark.model
NEIGHBOURS = 15
EXACT: dict[str, str | int | float | bool] = {"exact": True, "threads": 1}


@pytest.mark.parametrize("quantization", ["q8_0", "q4_0"])
async def test_a_greedy_answer_is_the_same_alone_and_among_fifteen_others(
    quantization: str,
) -> None:
    """With ``exact``: flash attention, separate KV streams, one thread; token ids are compared."""
    files = make(MODELS, [quantization])
    spec = ModelSpec(name="m", path=str(files[quantization]), context_tokens=512, slots=NEIGHBOURS + 1, options=EXACT)
    rig = Rig("llama.cpp", make_engine("llama.cpp"), spec)
    sampling = Sampling(temperature=0.0, max_tokens=40, ignore_eos=True)
    prompts = [f"Story {number}: once upon a time, " + "far away, " * (8 * number) for number in range(NEIGHBOURS + 1)]
    prompts.sort(key=len, reverse=True)  # the longest are asked alone too: their prefill takes many steps
    try:
        await rig.start()
        alone = [await rig.run(rig.job(one, sampling=sampling, return_token_ids=True)) for one in prompts[:3]]
        await rig.engine.unload("m", rig.loaded.quantization)
        rig.loaded = await rig.engine.load(spec, lambda _fraction, _message: None)  # nothing cached
        runs = [await rig.submit(rig.job(one, sampling=sampling, return_token_ids=True)) for one in prompts]
        await asyncio.gather(*(run.end() for run in runs))
    finally:
        await rig.stop()
    for before, after in zip(alone, runs, strict=False):
        assert len(_ids(before)) == 40
        assert _ids(before) == _ids(after)


@pytest.mark.parametrize("at", [1, 17, 63])
async def test_an_answer_that_moves_goes_on_exactly(model_files: dict[str, Path], at: int) -> None:
    """Another engine of the same quantization goes on from a token with the very tokens that would have come."""
    spec = ModelSpec(name="m", path=str(model_files["q8_0"]), context_tokens=512, slots=2, options=EXACT)
    prompt = "A list of things in the house of the old captain: " + "a brass compass, a torn map, " * 18
    whole = Sampling(temperature=0.0, max_tokens=80, ignore_eos=True)
    rest = Sampling(temperature=0.0, max_tokens=80 - at, ignore_eos=True)
    rigs = [Rig("llama.cpp", make_engine("llama.cpp"), spec) for _ in range(2)]
    try:
        for rig in rigs:
            await rig.start()
        unmoved = await rigs[0].run(rigs[0].job(prompt, sampling=whole, return_token_ids=True))
        begun = await rigs[0].run(rigs[0].job(prompt, sampling=replace(whole, max_tokens=at), return_token_ids=True))
        sent = tuple(_ids(begun))
        before = ContinueFrom(
            text=begun.text,
            token_ids=sent,
            tokenizer_fingerprint=rigs[1].loaded.tokenizer_fingerprint,
            output_tokens=at,
        )
        job = rigs[1].job(prompt, sampling=rest, return_token_ids=True, continue_from=before)
        moved = await rigs[1].run(job)
    finally:
        for rig in rigs:
            await rig.stop()
    assert [*sent, *_ids(moved)] == _ids(unmoved)


async def test_a_conversation_whose_memory_was_moved_goes_on_as_if_it_had_not(model_files: dict[str, Path]) -> None:
    """Its slot was wanted beside a running one: it is found elsewhere, reused, and the answer is the same."""
    spec = ModelSpec(name="m", path=str(model_files["q8_0"]), context_tokens=512, slots=4, options=EXACT)
    rig = Rig("llama.cpp", make_engine("llama.cpp"), spec)
    greedy = Sampling(temperature=0.0, max_tokens=24, ignore_eos=True)
    long = Sampling(temperature=0.0, max_tokens=200, ignore_eos=True)
    talks = [f"Letter {number}: " + f"dear number {number}, " * 30 for number in range(4)]
    follow_up = talks[1] + "and then she wrote: "
    try:
        await rig.start()
        fresh = await rig.run(rig.job(follow_up, sampling=greedy, return_token_ids=True))
        await rig.engine.unload("m", rig.loaded.quantization)
        rig.loaded = await rig.engine.load(spec, lambda _fraction, _message: None)
        running = await rig.submit(rig.job(talks[0], sampling=long))  # slot 0, and it stays there
        for number in (2, 3, 1):  # each ends beside it, and the next moves it on; number 1 is the youngest
            await rig.run(rig.job(talks[number], sampling=greedy))
        await rig.run(rig.job("Something short and new: " + "tick tock " * 40, sampling=greedy))
        later = await rig.run(rig.job(follow_up, sampling=greedy, return_token_ids=True))
        rig.engine.abort(running.job.request_id, running.job.attempt)
        await running.end()
    finally:
        await rig.stop()
    assert _ids(later) == _ids(fresh)
    usage = later.deltas[-1].usage
    assert usage is not None
    assert usage.cached_tokens >= 64


def _ids(run: Run) -> list[int]:
    return [token for delta in run.deltas for token in delta.token_ids]
