"""A model file's chat template decides what its worker serves: none, one that wants parts, one without a system."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protos.contract.grammar import Grammar, GrammarKind
from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, ContinueFrom, Job, Sampling
from protos.contract.stream import Delta, FinishReason, RefusalCode
from tests.unit.workers.engines.templates import sources
from workers.engines.base import Engine, ModelSpec, Refused
from workers.engines.table import make_engine

pytestmark = pytest.mark.model

KEY = b"tokenizer.chat_template"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    one = make_engine("llama.cpp")
    yield one
    await one.close()


@pytest.fixture
def base_model(model_files: dict[str, Path], tmp_path: Path) -> Path:
    """The model under a name of no meaning where its template was: as base models come."""
    file = tmp_path / "base.gguf"
    data = model_files["q8_0"].read_bytes()
    assert data.count(KEY) == 1
    file.write_bytes(data.replace(KEY, KEY[:-1] + b"_"))
    return file


async def load(engine: Engine, path: Path, **options: Any) -> Any:
    spec = ModelSpec(name="tiny", path=str(path), context_tokens=256, slots=2, options=options)
    return await engine.load(spec, lambda _fraction, _message: None)


def job(*messages: ChatMessage, prompt: str = "") -> Job:
    sampling = Sampling(temperature=0.0, max_tokens=1)
    return Job(
        request_id=RequestId(f"r{len(messages)}{prompt}"),
        attempt=1,
        model="tiny",
        quantization="",
        messages=messages,
        prompt=prompt,
        sampling=sampling,
    )


USER = ChatMessage(role="user", content="The lighthouse keeper counted seven ships that passed in the night.")
SYSTEM = ChatMessage(role="system", content="You answer with the names of colours, and with nothing else at all.")


async def test_a_model_without_a_template_completes_text_and_refuses_chats(engine: Engine, base_model: Path) -> None:
    """Declared, and said with what to do."""
    loaded = await load(engine, base_model)
    assert (loaded.capabilities.chat, loaded.capabilities.tools) == (False, False)
    with pytest.raises(Refused, match="no chat template; use /v1/completions, or give it one") as refused:
        await engine.submit(job(USER))
    assert refused.value.code is RefusalCode.UNSUPPORTED
    assert (await engine.submit(job(prompt="Once upon"))).prompt_tokens > 0


async def test_a_template_is_given_to_a_model_that_has_none(engine: Engine, base_model: Path, tmp_path: Path) -> None:
    given = tmp_path / "chat.jinja"
    given.write_text(sources.CHATML)
    loaded = await load(engine, base_model, chat_template=str(given))
    assert loaded.capabilities.chat
    assert (await engine.submit(job(USER))).prompt_tokens > 12


@pytest.mark.parametrize("source", [sources.TYPED, sources.NO_SYSTEM])
async def test_every_word_reaches_the_prompt_whatever_the_template_wants(
    source: str, engine: Engine, model_files: dict[str, Path], tmp_path: Path
) -> None:
    """Text where content must be parts; a system message where there is no place for one: the prompt grows by them."""
    given = tmp_path / "chat.jinja"
    given.write_text(source)
    await load(engine, model_files["q8_0"], chat_template=str(given))
    empty = (await engine.submit(job(ChatMessage(role="user", content="x")))).prompt_tokens
    asked = (await engine.submit(job(USER, ChatMessage(role="assistant", content="")))).prompt_tokens
    assert asked > empty + 8
    told = (await engine.submit(job(SYSTEM, USER, ChatMessage(role="assistant", content="")))).prompt_tokens
    assert told > asked + 8


async def told(engine: Engine, asked: Job) -> list[Delta]:
    """Every delta of one job."""
    found: list[Delta] = []
    await engine.submit(asked)
    async for result in engine.steps():
        found += [one for one in result.deltas if one.request_id == asked.request_id]
        if found and found[-1].finish_reason is not None:
            return found
    raise AssertionError("the engine stopped")


async def test_a_grammar_waits_until_the_thoughts_that_the_prompt_opens_are_over(
    engine: Engine, model_files: dict[str, Path], tmp_path: Path
) -> None:
    """Thoughts are free and stand apart; the answer after them fits, though another worker thought them."""
    given = tmp_path / "chat.jinja"
    given.write_text(sources.CHATML + "<think>\n{# </think> #}")
    loaded = await load(engine, model_files["q8_0"], chat_template=str(given))
    assert loaded.capabilities.reasoning
    kept = Grammar(kind=GrammarKind.REGEX, text="(red|green)-[0-9]{2}")
    asked = replace(job(USER), grammar=kept, sampling=Sampling(temperature=0.0, max_tokens=24))
    thinking = await told(engine, asked)
    assert "".join(one.reasoning for one in thinking)
    assert "".join(one.text for one in thinking) == ""
    assert thinking[-1].finish_reason is FinishReason.LENGTH
    for sent in ("Well, red.\n</think>", "Well, red.\n</think>\n\nre", "Well, red.\n</think>green-"):
        resume = ContinueFrom(text=sent, output_tokens=5)
        rest = await told(engine, replace(asked, request_id=RequestId(sent), continue_from=resume))
        answer = sent.partition("</think>")[2].strip() + "".join(one.text for one in rest)
        assert re.fullmatch("(red|green)-[0-9]{2}", answer.strip()), (sent, answer)
        assert rest[-1].finish_reason is FinishReason.STOP
