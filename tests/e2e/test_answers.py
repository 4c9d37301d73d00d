"""Real weights through the whole pool, asked by the official ``openai`` client."""

import asyncio
import math
import random
from typing import Any

import openai
import pytest

from tests.support.pool import MODEL, Pool

pytestmark = pytest.mark.model

CAPITAL: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
STORY: list[Any] = [{"role": "user", "content": "Tell me a long story about a fox and a river."}]


async def test_the_q8_worker_knows_the_capital_of_france(client: openai.AsyncOpenAI) -> None:
    """Pinned by name@quantization; the headers say who answered, the usage adds up."""
    raw = await client.chat.completions.with_raw_response.create(
        model=f"{MODEL}@q8_0", messages=CAPITAL, temperature=0, max_tokens=32
    )
    answer = raw.parse()
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert raw.headers["x-allsorts-worker"] == "local-q8_0"
    assert raw.headers["x-allsorts-quantization"] == "q8_0"
    assert raw.headers.get_list("x-request-id") == [answer.id], "the router's, and only once"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_a_streamed_answer_is_the_same_text(client: openai.AsyncOpenAI) -> None:
    """Greedy, streamed and not; the usage comes last when asked for."""
    request: dict[str, Any] = {"model": f"{MODEL}@q8_0", "messages": STORY, "temperature": 0, "max_tokens": 60}
    whole = await client.chat.completions.create(**request)
    stream = await client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 10
    assert chunks[-1].usage == whole.usage or chunks[-1].usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[union-attr]


async def test_both_workers_receive_traffic(client: openai.AsyncOpenAI) -> None:
    """A name without a quantization means any; under load both share it."""

    async def ask(number: int) -> str:
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": f"Count from {number}."}], max_tokens=24
        )
        return str(raw.headers["x-allsorts-worker"])

    assert set(await asyncio.gather(*(ask(number) for number in range(16)))) == {"local-q8_0", "local-q4_k_m"}


async def test_a_stop_string_ends_the_answer_before_it(client: openai.AsyncOpenAI) -> None:
    """Also one that straddles tokens."""
    request: dict[str, Any] = {"model": f"{MODEL}@q8_0", "messages": STORY, "temperature": 0, "max_tokens": 60}
    text = (await client.chat.completions.create(**request)).choices[0].message.content or ""
    stop = text[len(text) // 2 : len(text) // 2 + 7]
    answer = await client.chat.completions.create(**request, stop=[stop, "never this"])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


async def test_a_seed_makes_an_answer_repeatable(client: openai.AsyncOpenAI) -> None:
    """On one quantization; other seeds differ."""

    async def ask(seed: int) -> str | None:
        answer = await client.chat.completions.create(
            model=f"{MODEL}@q8_0", messages=STORY, temperature=1.0, seed=seed, max_tokens=24
        )
        return answer.choices[0].message.content

    first, again, other = await asyncio.gather(ask(5), ask(5), ask(6))
    assert first == again
    assert first != other


async def test_log_probabilities_come_in_openais_shape(client: openai.AsyncOpenAI) -> None:
    """One entry a token, rivals best first, probabilities that are some."""
    answer = await client.chat.completions.create(
        model=f"{MODEL}@q8_0", messages=CAPITAL, temperature=0, max_tokens=8, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None
    entries = answer.choices[0].logprobs.content or []
    assert answer.usage is not None
    assert len(entries) == answer.usage.completion_tokens
    for entry in entries:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob, abs=1e-4)
        assert sum(math.exp(one.logprob) for one in entry.top_logprobs) <= 1.0001
    assert "".join(entry.token for entry in entries) == answer.choices[0].message.content


async def test_thirty_two_requests_at_once_are_all_complete_and_counted(client: openai.AsyncOpenAI) -> None:
    """Mixed lengths, streamed and not: every one ends, and the tokens it got are those its usage says."""
    dice = random.Random(7)

    async def ask(number: int) -> None:
        words = " ".join(dice.choice(["river", "stone", "seven", "green", "of"]) for _ in range(dice.randint(4, 250)))
        wanted = dice.randint(4, 64)
        request: dict[str, Any] = {
            "model": MODEL, "messages": [{"role": "user", "content": f"{number}: {words}"}],
            "max_tokens": wanted, "logprobs": True, "extra_body": {"ignore_eos": True},
        }  # fmt: skip
        if number % 2:
            answer = await client.chat.completions.create(**request)
            assert answer.choices[0].logprobs is not None
            got, usage = len(answer.choices[0].logprobs.content or []), answer.usage
            assert answer.choices[0].finish_reason == "length"
        else:
            stream = await client.chat.completions.create(
                **request, stream=True, stream_options={"include_usage": True}
            )
            got, usage = 0, None
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    got += len(choice.logprobs.content or []) if choice.logprobs else 0
        assert usage is not None
        assert got == usage.completion_tokens == wanted

    await asyncio.gather(*(ask(number) for number in range(32)))


async def test_text_completions_answer_too(client: openai.AsyncOpenAI) -> None:
    """The older endpoint: no chat template."""
    answer = await client.completions.create(
        model=f"{MODEL}@q8_0", prompt="The capital of France is", temperature=0, max_tokens=4
    )
    assert "Paris" in answer.choices[0].text


async def test_models_lists_the_name_and_each_quantization(client: openai.AsyncOpenAI) -> None:
    """What a client may ask for."""
    names = {model.id async for model in client.models.list()}
    assert {MODEL, f"{MODEL}@q8_0", f"{MODEL}@q4_k_m"} <= names


async def test_too_long_a_prompt_is_the_clients_400(client: openai.AsyncOpenAI, pool: Pool) -> None:
    """Counted by the worker before any work is done."""
    with pytest.raises(openai.BadRequestError) as error:
        await client.chat.completions.create(
            model=f"{MODEL}@q8_0", messages=[{"role": "user", "content": "word " * 9000}], max_tokens=20
        )
    assert error.value.code == "context_length_exceeded"
    assert pool.busy() == 0
