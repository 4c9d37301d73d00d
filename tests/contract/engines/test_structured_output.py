"""What every engine keeps that says it keeps to grammars; each kind is tested where it is declared."""

import json
import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.request import ContinueFrom, Sampling
from protos.contract.stream import FinishReason, RefusalCode
from tests.contract.engines.rigs import GREEDY, Rig, ended_well
from workers.engines.base import Refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Rome"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "sights": {"type": "array", "items": {"enum": ["tower", "bridge"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["city", "days", "sights"],
}
JSON = Grammar(kind=GrammarKind.JSON_SCHEMA, text=json.dumps(SCHEMA))
GRAMMARS = {
    GrammarKind.JSON_SCHEMA: JSON,
    GrammarKind.JSON_OBJECT: Grammar(kind=GrammarKind.JSON_OBJECT),
    GrammarKind.REGEX: Grammar(kind=GrammarKind.REGEX, text="(red|green|blue)-[0-9]{3}"),
    GrammarKind.CHOICE: Grammar(kind=GrammarKind.CHOICE, choices=("positive", "negative")),
    GrammarKind.LARK: Grammar(kind=GrammarKind.LARK, text='start: "yes " DIGITS\nDIGITS: /[0-9]{2}/'),
    GrammarKind.GBNF: Grammar(kind=GrammarKind.GBNF, text='root ::= "yes " [0-9] [0-9]'),
}
LONG = replace(GREEDY, max_tokens=120)


def needs(rig: Rig, kind: GrammarKind) -> Grammar:
    if kind not in rig.loaded.capabilities.grammars:
        pytest.skip(f"declares no {kind}")
    return GRAMMARS[kind]


def fits(kind: GrammarKind, text: str) -> bool:
    match kind:
        case GrammarKind.JSON_SCHEMA:
            jsonschema.validate(json.loads(text), SCHEMA)
            return True
        case GrammarKind.JSON_OBJECT:
            return isinstance(json.loads(text), dict)
        case GrammarKind.REGEX:
            return bool(re.fullmatch("(red|green|blue)-[0-9]{3}", text))
        case GrammarKind.CHOICE:
            return text in ("positive", "negative")
        case _:
            return bool(re.fullmatch("yes [0-9]{2}", text))


@pytest.mark.parametrize("kind", list(GrammarKind))
async def test_an_answer_that_ends_by_itself_fits_its_grammar(rig: Rig, kind: GrammarKind) -> None:
    """Drawn at temperature 1, several together with one that has none."""
    grammar = needs(rig, kind)
    sampling = Sampling(temperature=1.0, max_tokens=200)
    plain = await rig.submit(rig.chat())
    runs = [
        await rig.submit(rig.chat("Plan a trip.", grammar=grammar, sampling=replace(sampling, seed=seed)))
        for seed in range(3)
    ]
    for run in runs:
        await run.end()
        assert ended_well(run)
        if run.final.finish_reason is FinishReason.STOP:
            assert fits(kind, run.text), run.text
    if kind is not GrammarKind.JSON_OBJECT:  # the others have few tokens to go
        assert all(run.final.finish_reason is FinishReason.STOP for run in runs)
    assert ended_well(await plain.end())


async def test_what_is_no_schema_is_refused_before_any_work(rig: Rig) -> None:
    """The client's fault, in one line that says why."""
    needs(rig, GrammarKind.JSON_SCHEMA)
    with pytest.raises(Refused) as refused:
        await rig.submit(rig.chat(grammar=Grammar(kind=GrammarKind.JSON_SCHEMA, text='{"type": ')))
    assert refused.value.code is RefusalCode.INVALID
    assert "\n" not in refused.value.message


async def test_a_grammar_goes_with_seeds_log_probabilities_penalties_and_stop_strings(rig: Rig) -> None:
    """As without one; a stop string cuts the answer where it would have gone on."""
    grammar = needs(rig, GrammarKind.JSON_SCHEMA)
    sampling = Sampling(temperature=1.0, max_tokens=120, seed=5, frequency_penalty=0.5, presence_penalty=0.2)
    runs = [await rig.run(rig.chat("A trip.", grammar=grammar, sampling=sampling)) for _ in range(2)]
    if rig.loaded.capabilities.seed:
        assert runs[0].text == runs[1].text
    if rig.loaded.capabilities.logprobs and rig.name in ("llama.cpp", "vllm"):
        run = await rig.run(rig.chat("A trip.", grammar=grammar, sampling=replace(sampling, logprobs=True)))
        told = [entry for delta in run.deltas for entry in delta.logprobs]
        assert b"".join(entry.token for entry in told).decode().strip() == run.text.strip()
    if rig.name != "simulated":
        cut = await rig.run(rig.chat("A trip.", grammar=grammar, sampling=replace(sampling, stop=('"days"',))))
        assert cut.final.finish_reason is FinishReason.STOP
        assert cut.text == runs[0].text.partition('"days"')[0]


async def test_an_answer_goes_on_from_what_was_sent_and_fits_as_a_whole(rig: Rig) -> None:
    """Wherever it was cut: the grammar's state is that of the text."""
    needs(rig, GrammarKind.JSON_SCHEMA)
    if not rig.loaded.capabilities.can_continue or rig.name == "vllm":  # it says so: a refusal, before any work
        pytest.skip("declares no can_continue")
    whole = await rig.run(rig.chat("Plan a trip.", grammar=JSON, sampling=LONG))
    assert whole.final.finish_reason is FinishReason.STOP
    for cut in range(1, len(whole.text), max(1, len(whole.text) // 6)):
        sent = whole.text[:cut]
        resume = ContinueFrom(text=sent, output_tokens=cut)
        rest = await rig.run(rig.chat("Plan a trip.", grammar=JSON, sampling=LONG, continue_from=resume))
        assert rest.final.finish_reason is FinishReason.STOP, (sent, rest.text)
        assert fits(GrammarKind.JSON_SCHEMA, sent + rest.text), (sent, rest.text)


async def _biased(rig: Rig, ids: list[int]) -> None:
    forbidden = await rig.run(
        rig.job(
            sampling=replace(GREEDY, max_tokens=6, ignore_eos=True, logit_bias={ids[0]: -100.0}), return_token_ids=True
        )
    )
    assert ids[0] not in [one for delta in forbidden.deltas for one in delta.token_ids][:1]
    favoured = await rig.run(
        rig.job(
            sampling=replace(GREEDY, max_tokens=3, ignore_eos=True, logit_bias={ids[2]: 100.0}), return_token_ids=True
        )
    )
    assert [one for delta in favoured.deltas for one in delta.token_ids] == [ids[2]] * 3


async def test_tokens_that_are_favoured_forbidden_or_end_an_answer(rig: Rig) -> None:
    """``logit_bias``, ``min_tokens`` and ``stop_token_ids``, where token ids are known."""
    probe: Any = await rig.run(rig.job(sampling=replace(GREEDY, max_tokens=6, ignore_eos=True), return_token_ids=True))
    ids = [one for delta in probe.deltas for one in delta.token_ids]
    if rig.name not in ("llama.cpp", "vllm"):
        pytest.skip("has no token ids of its own")
    if rig.spec.options.get("speculate"):  # of vLLM: it says so, before any work
        with pytest.raises(Refused) as refused:
            await rig.submit(rig.job(sampling=replace(GREEDY, logit_bias={ids[0]: -100.0})))
        assert (refused.value.code, refused.value.parameter) == (RefusalCode.UNSUPPORTED, "logit_bias")
    else:
        await _biased(rig, ids)
    ended = await rig.run(
        rig.job(sampling=replace(GREEDY, max_tokens=6, stop_token_ids=(ids[3],)), return_token_ids=True)
    )
    assert [one for delta in ended.deltas for one in delta.token_ids] == ids[: ids.index(ids[3])]
    assert ended.final.finish_reason is FinishReason.STOP
    short = Sampling(temperature=0.0, max_tokens=64)
    natural = await rig.run(rig.chat("Say hi.", sampling=short))
    assert natural.final.usage is not None
    most = natural.final.usage.completion_tokens + 5
    longer = await rig.run(rig.chat("Say hi.", sampling=replace(short, min_tokens=min(most, 64))))
    assert longer.final.usage is not None
    assert longer.final.usage.completion_tokens >= min(most, 64)
