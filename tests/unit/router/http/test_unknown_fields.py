"""Fields nobody knows change nothing: they are left out and named, unless the operator wants them refused."""

from typing import Any

import msgspec
import pytest

from router.config import HttpConfig
from router.http.server.unknown_fields import MAX_NAMED, Lenient
from tests.support.http_surface import surface


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    a: int = 0


class Cat(msgspec.Struct, tag="cat", tag_field="kind", forbid_unknown_fields=True):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog", tag_field="kind", forbid_unknown_fields=True):
    toys: list[Leaf] = []


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaf: Leaf | None = None
    leaves: list[Leaf] | str | None = None
    pets: list[Cat | Dog] = []
    free: dict[str, Any] = {}
    named: dict[str, Leaf] = {}


@pytest.mark.parametrize(
    ("given", "left", "names"),
    [
        ({"leaf": {"a": 1, "b": 2}}, {"leaf": {"a": 1}}, ("leaf.b",)),
        ({"x": 1, "leaves": [{"a": 1}, {"b": 1}, {"b": 2}]}, {"leaves": [{"a": 1}, {}, {}]}, ("x", "leaves[].b")),
        (
            {"leaves": "text", "free": {"anything": {"goes": 1}}},
            {"leaves": "text", "free": {"anything": {"goes": 1}}},
            (),
        ),
        (
            {"pets": [{"kind": "dog", "toys": [{"z": 0}], "lives": 1}, {"kind": "cat", "toys": []}]},
            {"pets": [{"kind": "dog", "toys": [{}]}, {"kind": "cat"}]},
            ("pets[].lives", "pets[].toys[].z", "pets[].toys"),
        ),
        ({"named": {"k": {"b": 1}}}, {"named": {"k": {}}}, ("named.*.b",)),
        ({"leaf": [1], "leaves": {"b": 1}}, {"leaf": [1], "leaves": {"b": 1}}, ()),
        ({"pets": [{"kind": "fox", "b": 1}, 7, None]}, {"pets": [{"kind": "fox", "b": 1}, 7, None]}, ()),
    ],
)
def test_what_a_type_does_not_know_is_taken_out_at_any_depth(given: Any, left: Any, names: tuple[str, ...]) -> None:
    """What is wrong otherwise stays, for the decoder to judge."""
    assert Lenient(Tree).strip(given) == (left, names)


def test_names_are_told_up_to_a_bound() -> None:
    assert len(Lenient(Leaf).strip({f"x{n}": n for n in range(10_000)})[1]) == MAX_NAMED


HISTORY = [
    {"role": "user", "content": "hi", "timestamp": 1},
    {"role": "assistant", "content": "hello", "id": "msg_1", "provider_specific_fields": {"a": [1]}},
    {"role": "user", "content": [{"type": "text", "text": "and?", "cache_control": {"type": "ephemeral"}}]},
]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"messages": HISTORY}, {"messages[].timestamp", "messages[].id", "messages[].content[].cache_control"}),
        ({"keep_alive": "5m", "options": {"num_ctx": 4096}}, {"keep_alive", "options"}),
        ({"prompt_cache_retention": "24h", "mood": "\u2603\nx"}, {"prompt_cache_retention", "mood"}),
        ({"x-forwarded\r\nset-cookie": 1}, {"x-forwarded??set-cookie"}),
    ],
)
async def test_unknown_fields_of_a_request_are_named_in_the_answers_headers(
    change: dict[str, Any], named: set[str]
) -> None:
    on = surface()
    reply = await on.chat(**change)
    assert reply.status_code == 200
    assert named <= set(reply.headers["x-allsorts-ignored"].split(", "))
    strict = await surface(config=HttpConfig(unknown_fields="refuse")).chat(**change)
    assert (strict.status_code, strict.json()["error"]["code"]) == (400, "unknown_parameter")


async def test_what_load_generators_and_agents_send_works_and_what_is_known_is_used() -> None:
    """guidellm's and llama-benchy's bodies, and a second turn as agents send it."""
    on = surface()
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "reasoning_content": "hm"}]
    reply = await on.chat(
        messages=[*history, {"role": "user", "content": "and?"}], min_tokens=2, max_tokens=4, return_token_ids=True,
        stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}, cache_prompt=False,
        chat_template_kwargs={"enable_thinking": False}, ignore_eos=True,
    )  # fmt: skip
    assert reply.status_code == 200
    assert reply.headers["x-allsorts-ignored"] == "return_token_ids, cache_prompt"
    asked = on.pipeline.requests[0]
    assert (asked.sampling.min_tokens, asked.sampling.ignore_eos) == (2, True)
    assert asked.messages[1].reasoning == "hm"
    assert asked.template_arguments == '{"enable_thinking":false}'


async def test_a_request_whose_fields_are_all_known_has_no_such_header() -> None:
    assert "x-allsorts-ignored" not in (await surface().chat()).headers


async def test_a_wrong_value_beside_an_unknown_field_is_still_a_400() -> None:
    messages = [{"role": "user", "content": "hi", "mood": 1}, {"role": "user", "content": 1}]
    reply = await surface().chat(messages=messages)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages[1].content")
    assert (await surface().chat(messages=messages[:1])).headers["x-allsorts-ignored"] == "messages[].mood"
