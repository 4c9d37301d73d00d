"""OpenAI's dialect beyond plain chat: several answers, echo, lenient ranges, usage; and what stands beside it."""

from typing import Any

import httpx
import msgspec
import pytest

from protos.contract.stream import FinishReason, TokenLogprob, TopLogprob, Usage
from router.domain.answer import Chunk
from router.http.dialects.openai.answers import ChatCompletionChunk, CompletionChunk
from tests.support.http_surface import WORDS, Surface, events, surface

USER = {"role": "user", "content": "hi"}


async def post(on: Surface, path: str, **body: Any) -> httpx.Response:
    async with on.client() as client:
        return await client.post(path, json={"model": "m", **body})


@pytest.mark.parametrize(("change", "field", "value"), [
    ({"top_p": 0}, "top_p", 1e-6),
    ({"stop": ""}, "stop", ()),
    ({"stop": ["", "END"]}, "stop", ("END",)),
    ({"logit_bias": {"15": -100, "16": 2.5}}, "logit_bias", {15: -100, 16: 2.5}),
    ({"min_tokens": 3, "max_tokens": 9}, "min_tokens", 3),
    ({"stop_token_ids": [2, 3, 2]}, "stop_token_ids", (2, 3)),
    ({"repeat_penalty": 1.1}, "repetition_penalty", 1.1),
])  # fmt: skip
async def test_ranges_are_as_wide_as_openais_and_engines_fields_are_passed_on(
    change: dict[str, Any], field: str, value: Any
) -> None:
    on = surface()
    assert (await on.chat(**change)).status_code == 200
    assert getattr(on.pipeline.requests[0].sampling, field) == value


async def test_n_choices_are_n_requests_told_apart_by_their_seed_and_answered_as_one() -> None:
    on = surface()
    reply = await on.chat(n=3, seed=5)
    body = reply.json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"".join(WORDS)}
    assert body["usage"] == {
        "prompt_tokens": 7, "completion_tokens": 18, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip
    asked = on.pipeline.requests
    assert [one.sampling.seed for one in asked] == [5, 6, 7]
    assert [one.request_id for one in asked] == [body["id"], f"{body['id']}-1", f"{body['id']}-2"]
    assert not on.pipeline.running


async def test_n_choices_stream_side_by_side() -> None:
    on = surface()
    reply = await on.chat(n=2, stream=True, stream_options={"include_usage": True})
    *said, usage, done = events(reply.text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 12
    texts, ends = {0: "", 1: ""}, {}
    for event in said:
        msgspec.convert(event, ChatCompletionChunk)
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
            if choice["finish_reason"]:
                ends[choice["index"]] = choice["finish_reason"]
    assert texts == dict.fromkeys((0, 1), "".join(WORDS))
    assert ends == dict.fromkeys((0, 1), "stop")


async def test_a_list_of_prompts_is_answered_in_its_order_and_each_prompt_counts_once() -> None:
    on = surface()
    body = (await post(on, "/v1/completions", prompt=["a", "b"], n=2, max_tokens=6)).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 14
    assert body["usage"]["completion_tokens"] == 24
    assert sorted(one.prompt for one in on.pipeline.requests) == ["a", "a", "b", "b"]
    on = surface()
    assert (await post(on, "/v1/completions", prompt=[[1, 2], [3]])).status_code == 200
    assert sorted(one.prompt for one in on.pipeline.requests) == [(1, 2), (3,)]


async def test_one_of_several_answers_that_fails_ends_them_all() -> None:
    from router.errors import WorkerFailed

    on = surface(break_with=WorkerFailed("gone"))
    assert (await on.chat(n=4)).status_code == 502
    assert not on.pipeline.running
    streamed = events((await on.chat(n=4, stream=True)).text)
    assert streamed[-1]["error"]["code"] == "worker_failed"
    assert not on.pipeline.running


async def test_more_answers_than_are_asked_for_at_once_all_come() -> None:
    on = surface()
    reply = await post(on, "/v1/completions", prompt=[f"p{n}" for n in range(64)], n=2, max_tokens=1)
    assert [choice["index"] for choice in reply.json()["choices"]] == list(range(128))


RIVALS = (TopLogprob(token_id=9, token=b" cat", logprob=-1.0),)
ECHO = (
    Chunk(
        echo="The sky",
        echo_logprobs=(
            TokenLogprob(token_id=1, token=b"The", logprob=0.0),
            TokenLogprob(token_id=2, token=b" sky", logprob=-2.0, top=RIVALS),
        ),
        text=" is",
        token_count=1,
        logprobs=(TokenLogprob(token_id=3, token=b" is", logprob=-0.5),),
    ),
    Chunk(finish_reason=FinishReason.LENGTH, usage=Usage(prompt_tokens=2, completion_tokens=1)),
)  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
async def test_an_echo_comes_first_with_the_prompts_log_probabilities(stream: bool) -> None:
    on = surface(script=ECHO)
    reply = await post(on, "/v1/completions", prompt="The sky", echo=True, logprobs=1, max_tokens=1, stream=stream)
    if stream:
        said = events(reply.text)[:-1]
        for event in said:
            msgspec.convert(event, CompletionChunk)
        choice = said[0]["choices"][0]
    else:
        choice = reply.json()["choices"][0]
    assert choice["text"] == "The sky is"
    assert choice["logprobs"] == {
        "tokens": ["The", " sky", " is"],
        "token_logprobs": [None, -2.0, -0.5],
        "top_logprobs": [None, {" cat": -1.0}, {}],
        "text_offset": [0, 3, 7],
    }
    assert on.pipeline.requests[0].sampling.echo


async def test_nothing_but_the_echo_may_be_asked_for() -> None:
    """How evaluators have a text scored."""
    on = surface(script=ECHO)
    assert (await post(on, "/v1/completions", prompt="x", echo=True, max_tokens=0, logprobs=1)).status_code == 200
    assert on.pipeline.requests[0].sampling.max_tokens == 0
    assert (await post(on, "/v1/completions", prompt="x", max_tokens=0)).json()["error"]["param"] == "max_tokens"


async def test_usage_runs_along_when_a_client_wants_it() -> None:
    """As load generators do, which count tokens as they come."""
    reply = await surface().chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    counted = [event["usage"]["completion_tokens"] for event in events(reply.text)[:-1]]
    assert counted == [0, 1, 2, 3, 4, 5, 6, 6, 6]


async def test_models_say_what_clients_fit_their_prompts_to() -> None:
    async with surface().client() as client:
        models = (await client.get("/v1/models")).json()["data"]
    pinned = next(one for one in models if one["id"] == "m@q4_k_m")
    assert (pinned["root"], pinned["max_model_len"], pinned["context_length"]) == ("m", 8192, 8192)
    extras = pinned["allsorts"]
    assert (extras["quantizations"], extras["capabilities"]) == (["q4_k_m"], ["chat", "completion", "logprobs"])
    away = next(one for one in models if one["id"] == "away")
    assert "max_model_len" not in away


async def test_the_documentation_page_and_the_greeting_are_served() -> None:
    async with surface().client() as client:
        page, hello = await client.get("/docs"), await client.get("/")
    assert "openapi.json" in page.text
    assert page.headers["content-type"].startswith("text/html")
    assert "is running" in hello.text
