"""Rule: proposals change how fast the real model answers, never what it says, whoever proposes and whatever."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import ContinueFrom, Job, Sampling
from tests.contract.engines.rigs import Rig, Run
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.batch.batching import Batching
from workers.engines.llama_cpp.batch.sequence import Sequence as Sequence_
from workers.engines.llama_cpp.engine import LlamaCppEngine
from workers.engines.table import make_engine
from workers.speculation import speculator
from workers.speculation.speculator import Counts
from workers.speculation.token_history import Proposal, TokenHistory

pytestmark = pytest.mark.model

ROWS = "Write these rows as JSON objects with the keys name, city and age:\n" + "\n".join(
    f"{name}, {city}, {age}" for name, city, age in [("Anna", "Paris", 31), ("Bert", "Rome", 42), ("Carla", "Oslo", 27)]
)
LIST = "one apple, two pears, one apple, two pears, one apple, two pears, one apple,"
WAYS = {
    "greedy": Sampling(temperature=0.0, max_tokens=60, ignore_eos=True),
    "sampled": Sampling(temperature=1.0, seed=5, max_tokens=60, ignore_eos=True),
    "nucleus": Sampling(temperature=0.8, top_p=0.9, top_k=40, min_p=0.02, seed=6, max_tokens=60, ignore_eos=True),
    "penalties": Sampling(
        temperature=0.0, presence_penalty=0.1, frequency_penalty=0.02, repetition_penalty=1.01, max_tokens=60,
        ignore_eos=True,
    ),
    "log-probabilities": Sampling(temperature=0.0, logprobs=True, top_logprobs=3, max_tokens=40, ignore_eos=True),
    "bias": Sampling(temperature=0.0, logit_bias={1: -100.0, 28: 1.5, 30: 0.7}, max_tokens=60, ignore_eos=True),
    "stop": Sampling(temperature=0.0, stop=("pears, one", "Oslo"), max_tokens=60, ignore_eos=True),
    "until it ends": Sampling(temperature=0.0, max_tokens=80),
}  # fmt: skip


def spec(path: Path, *, speculate: bool) -> ModelSpec:
    return ModelSpec(
        name="m", path=str(path), context_tokens=512, slots=4, options={"speculate": speculate, "exact": True}
    )


def counts(rig: Rig) -> Counts:
    """What the engine's only model proposed and accepted."""
    engine = rig.engine
    assert isinstance(engine, LlamaCppEngine)
    (runner,) = engine.held()
    return runner.speculated


async def answers(rig: Rig, ways: Sequence[Sampling]) -> list[Run]:
    """Both texts, each way, all at once."""
    jobs = [rig.job(text, sampling=way, return_token_ids=True) for way in ways for text in (ROWS, LIST)]
    runs = [await rig.submit(job) for job in jobs]
    await asyncio.gather(*(run.end() for run in runs))
    return runs


def said(run: Run) -> list[Any]:
    """Text, token ids, log-probabilities, end, and what is charged for; what was cached depends on who was there."""
    usage = run.deltas[-1].usage
    assert usage is not None
    return [
        run.text, [one for delta in run.deltas for one in delta.token_ids],
        [one for delta in run.deltas for one in delta.logprobs], run.deltas[-1].finish_reason,
        usage.prompt_tokens, usage.completion_tokens,
    ]  # fmt: skip


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows cost nothing: whatever has a chance is verified."""
    flat = ((1, 1.0), (128, 1.0))
    monkeypatch.setattr("workers.engines.llama_cpp.batch.batching.CPU_SHAPE", flat)
    monkeypatch.setattr("workers.engines.llama_cpp.batch.batching.measured", lambda step_s, most: [])
    measured = speculator.Speculator.observe
    monkeypatch.setattr(speculator.Speculator, "observe", lambda self, rows, _seconds: measured(self, rows, 0.01))


@pytest.fixture
def guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is proposed is replaced by anything in the vocabulary, end markers among them."""
    dice = random.Random(4)
    plain = TokenHistory.propose

    def propose(self: TokenHistory, context: Sequence[int], most: int) -> Proposal:
        found = plain(self, context, most)
        tokens = list(found.tokens) or [0] * min(most, 4)
        for at in range(len(tokens)):
            if dice.random() < 0.25 or not found.tokens:
                tokens[at] = dice.choice([0, 1, 2, dice.randrange(49_000)])
        return Proposal(tuple(tokens), max(found.match, 3))

    monkeypatch.setattr(TokenHistory, "propose", propose)


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.usefixtures("eager")
async def test_the_answer_is_the_one_it_would_have_been(model_files: dict[str, Path], way: str) -> None:
    """Token by token, log-probabilities, end and usage; and something was won."""
    plain = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=False))
    quick = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    try:
        await plain.start()
        await quick.start()
        expected, got = await answers(plain, [WAYS[way]]), await answers(quick, [WAYS[way]])
        won = counts(quick)
        assert counts(plain) == Counts()
    finally:
        await plain.stop()
        await quick.stop()
    assert [said(run) for run in got] == [said(run) for run in expected]
    assert won.accepted > 0 or way in {"sampled", "nucleus"}


@pytest.mark.usefixtures("eager", "guessing")
async def test_hostile_proposals_cost_time_alone(model_files: dict[str, Path]) -> None:
    """Most proposals are wrong, some end the answer, all ways run beside one another: every answer is right."""
    plain = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=False))
    quick = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    ways = list(WAYS.values())
    try:
        await plain.start()
        await quick.start()
        expected, got = await answers(plain, ways), await answers(quick, ways)
        won = counts(quick)
    finally:
        await plain.stop()
        await quick.stop()
    assert [said(run) for run in got] == [said(run) for run in expected]
    assert 0 < won.accepted < won.proposed


def grammar_jobs(rig: Rig, kinds: Sequence[Grammar]) -> list[Job]:
    way = Sampling(temperature=0.9, seed=8, max_tokens=48)
    return [rig.job(ROWS, sampling=way, grammar=kind, return_token_ids=True) for kind in kinds]


@pytest.mark.usefixtures("eager", "guessing")
async def test_what_a_grammar_forbids_is_cut_before_it_is_verified(
    model_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of proposals that are mostly wrong only what fits is verified, and each answer is the one without them."""
    verified: list[tuple[int, int]] = []
    take = Batching._take

    def watched(self: Batching, sequence: Sequence_, row: int) -> None:
        if sequence.draft:
            verified.append((sequence.fitting(sequence.draft), len(sequence.draft)))
        take(self, sequence, row)

    kinds = [
        Grammar(kind=GrammarKind.REGEX, text="(red, |green, |blue, ){12}end"),
        Grammar(kind=GrammarKind.GBNF, text='root ::= ("one apple, two pears, " | "three plums, "){6}'),
        Grammar(kind=GrammarKind.JSON_OBJECT),
    ]
    plain = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=False))
    quick = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    try:
        await plain.start()
        await quick.start()
        expected = [await plain.run(job) for job in grammar_jobs(plain, kinds)]
        monkeypatch.setattr(Batching, "_take", watched)
        runs = [await quick.submit(job) for job in grammar_jobs(quick, kinds)]
        await asyncio.gather(*(run.end() for run in runs))
        won = counts(quick)
    finally:
        await plain.stop()
        await quick.stop()
    assert [said(run)[:2] for run in runs] == [said(run)[:2] for run in expected]
    assert won.accepted > 0
    assert verified
    assert all(fits == length for fits, length in verified)


@pytest.mark.usefixtures("eager")
async def test_several_answers_to_one_question_are_each_their_own(model_files: dict[str, Path]) -> None:
    """``n``: the same prompt with a seed each, beside one another, sharing what the prompt left in the cache."""
    plain = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=False))
    quick = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    ways = [Sampling(temperature=0.7, seed=seed, max_tokens=24, ignore_eos=True) for seed in range(4)]
    texts: list[list[str]] = []
    try:
        for rig in (plain, quick):
            await rig.start()
            runs = [await rig.submit(rig.job(LIST, sampling=way)) for way in ways]
            await asyncio.gather(*(run.end() for run in runs))
            texts.append([run.text for run in runs])
        assert counts(quick).proposed > 0
    finally:
        await plain.stop()
        await quick.stop()
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


@pytest.mark.usefixtures("eager", "guessing")
async def test_what_is_sampled_has_the_models_own_distribution(model_files: dict[str, Path]) -> None:
    """With proposals that are mostly wrong, the likeliest token is drawn as often as its probabilities add up to.

    Of 300 tokens, each with its row's own probability; one right engine in a thousand would be that far off, and the
    seeds are fixed.
    """
    quick = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    drawn = expected = variance = 0.0
    try:
        await quick.start()
        for start in range(0, 12, 4):
            ways = [
                Sampling(temperature=1.0, seed=seed, logprobs=True, top_logprobs=1, max_tokens=25, ignore_eos=True)
                for seed in range(start, start + 4)
            ]
            runs = [await quick.submit(quick.job(LIST, sampling=way)) for way in ways]
            await asyncio.gather(*(run.end() for run in runs))
            for one in (one for run in runs for one in said(run)[2]):
                (likeliest,) = one.top
                chance = math.exp(likeliest.logprob)
                drawn += one.token_id == likeliest.token_id
                expected, variance = expected + chance, variance + chance * (1.0 - chance)
        assert counts(quick).proposed > 40
    finally:
        await quick.stop()
    assert variance > 20
    assert abs(drawn - expected) < 3.3 * math.sqrt(variance)


@pytest.mark.usefixtures("eager")
async def test_a_stream_that_moves_goes_on_from_what_was_said(model_files: dict[str, Path]) -> None:
    """Begun while speculating, continued on an engine that does, too: the tokens that would have come."""
    whole = replace(WAYS["greedy"], max_tokens=70)
    rigs = [Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True)) for _ in range(2)]
    try:
        for rig in rigs:
            await rig.start()
        unmoved = await rigs[0].run(rigs[0].job(LIST, sampling=whole, return_token_ids=True))
        begun = await rigs[0].run(
            rigs[0].job(LIST, sampling=replace(whole, max_tokens=25), return_token_ids=True)
        )  # fmt: skip
        sent = tuple(said(begun)[1])
        before = ContinueFrom(
            text=begun.text,
            token_ids=sent,
            tokenizer_fingerprint=rigs[1].loaded.tokenizer_fingerprint,
            output_tokens=25,
        )
        rest = replace(whole, max_tokens=45)
        moved = await rigs[1].run(rigs[1].job(LIST, sampling=rest, return_token_ids=True, continue_from=before))
    finally:
        for rig in rigs:
            await rig.stop()
    assert [*sent, *said(moved)[1]] == said(unmoved)[1]


@pytest.mark.usefixtures("eager")
async def test_an_abort_in_the_middle_leaves_the_memory_right(model_files: dict[str, Path]) -> None:
    """What a slot holds after rounds that were cut short is reused by the next request of the same text."""
    rig = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    try:
        await rig.start()
        text = 5 * LIST
        first = await rig.run(rig.job(text, sampling=WAYS["greedy"], return_token_ids=True))
        for length in (1, 40, 90):
            run = await rig.submit(rig.job(text, sampling=replace(WAYS["greedy"], max_tokens=300)))
            await run.until(lambda seen, length=length: len(seen.text) > length)
            rig.engine.abort(run.job.request_id, run.job.attempt)
            await run.end()
        again = await rig.run(rig.job(text, sampling=WAYS["greedy"], return_token_ids=True))
    finally:
        await rig.stop()
    assert said(again)[1] == said(first)[1]
    assert (again.deltas[-1].usage or pytest.fail("no usage")).cached_tokens > 0


@pytest.mark.usefixtures("eager")
async def test_an_answer_is_proposed_to_its_owner_again_and_to_nobody_else(model_files: dict[str, Path]) -> None:
    """The same prose asked twice: the second answer comes in few steps; another tenant's in as many as the first."""
    rig = Rig("llama.cpp", make_engine("llama.cpp"), spec(model_files["q8_0"], speculate=True))
    prose = Sampling(temperature=0.0, max_tokens=48, ignore_eos=True)
    accepted: list[int] = []
    texts: set[str] = set()
    try:
        await rig.start()
        for owner in ("one", "one", "other"):
            before = counts(rig).accepted
            run = await rig.run(rig.job("The river rose in the night and", sampling=prose, cache_salt=owner))
            accepted.append(counts(rig).accepted - before)
            texts.add(run.text)
    finally:
        await rig.stop()
    assert len(texts) == 1
    first, again, others = accepted
    assert again > 30
    assert others == first < again
