"""What load tests send: drawn alike everywhere, sized as asked, sharing what they say they share."""

import itertools
import json
import random
from itertools import islice
from pathlib import Path

import pytest

from loadtest.locust.endpoint.conversation import Conversation
from loadtest.locust.endpoint.heard import Heard
from loadtest.locust.workloads import MIX, WORKLOADS
from loadtest.locust.workloads.sessions import Session, Sizes, Turn
from loadtest.locust.workloads.trace import from_trace
from router.errors import ConfigError


def drawn(name: str, count: int, sizes: Sizes | None = None, seed: int = 7) -> list[Session]:
    return list(islice(WORKLOADS[name](random.Random(seed), sizes or Sizes()), count))


def said_of(session: Session, *, refused: frozenset[str] = frozenset()) -> Conversation:
    return Conversation(session, "tiny", 0.0, ignore_eos=True, refused=refused)


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_same_seed_sends_the_same_sessions_in_order_at_one_request_a_unit(name: str) -> None:
    """Every process of a distributed run draws the whole of it and plays its share."""
    once = drawn(name, 3000)
    assert once == drawn(name, 3000)
    assert once != drawn(name, 3000, seed=8)
    assert all(one.at <= later.at for one, later in itertools.pairwise(once))
    requests = sum(len(one.turns) for one in once)
    if name == "code-like":  # bursts with a gap CV of 13: 3,000 of them say little of the mean
        assert once[-1].at > 300
    else:
        assert requests / once[-1].at == pytest.approx(1.0, rel=0.25)


@pytest.mark.parametrize("name", WORKLOADS)
def test_lengths_keep_their_bounds(name: str) -> None:
    sizes = Sizes(scale=0.5, longest_prompt=700, longest_output=50)
    for one in drawn(name, 400, sizes):
        for turn in one.turns:
            assert 2 <= turn.output_tokens <= (96 if one.kind == "json-extraction" else 50)
            assert len(turn.text.split()) <= 700 + 20  # the order itself


def test_agents_share_system_prompts_and_carry_all_that_was_said() -> None:
    sessions = drawn("agent-like", 200)
    assert len({one.system for one in sessions}) <= 12
    assert sum(len(one.turns) for one in sessions) / len(sessions) == pytest.approx(4.0, rel=0.35)
    talk = said_of(next(one for one in sessions if len(one.turns) > 2))
    seen: list[object] = []
    for turn in talk.session.turns:
        body = talk.request(turn)
        assert body["messages"][: len(seen)] == seen
        assert [tool["function"]["name"] for tool in body["tools"]] == ["read_file", "search", "run_tests"]
        heard = Heard()
        heard.event(b'{"choices":[{"delta":{"content":"Done."}}]}', 1.0)
        talk.take(heard)
        seen = list(talk.messages)


def test_a_tool_that_was_called_gets_its_result_by_id() -> None:
    turns = (Turn(text="look", output_tokens=8), Turn(text="look", output_tokens=8, tool_result="found"))
    talk = said_of(Session(number=0, at=0.0, kind="agent-like", turns=turns, tools=({"type": "function"},)))
    talk.request(turns[0])
    heard = Heard()
    for data in (
        b'{"id":"call_7","function":{"name":"search","arguments":"{\\"pat"}}',
        b'{"function":{"arguments":"tern\\":1}"}}',
    ):
        heard.event(b'{"choices":[{"delta":{"tool_calls":[' + data + b"]}}]}", 1.0)
    talk.take(heard)
    messages = talk.request(turns[1])["messages"]
    assert messages[-2]["tool_calls"][0]["function"] == {"name": "search", "arguments": '{"pattern":1}'}
    assert messages[-1] == {"role": "tool", "tool_call_id": "call_7", "content": "found"}


def test_what_an_endpoint_refuses_goes_into_the_prompt_instead() -> None:
    extraction = drawn("json-extraction", 1)[0]
    taken, refused = said_of(extraction), said_of(extraction, refused=frozenset({"response_format", "ignore_eos"}))
    assert taken.request(extraction.turns[0])["response_format"]["type"] == "json_schema"
    body = refused.request(extraction.turns[0])
    assert "response_format" not in body
    assert extraction.plain in body["messages"][0]["content"]
    assert "ignore_eos" not in body


def test_a_mix_holds_every_kind_at_its_share() -> None:
    requests: dict[str, int] = dict.fromkeys(MIX, 0)
    for one in drawn("mix", 8000):
        requests[one.kind] += len(one.turns)
    total = sum(requests.values())
    assert requests["azure-like"] / total == pytest.approx(0.5, abs=0.12)
    assert all(requests.values())


def test_a_trace_keeps_its_times_and_what_its_prompts_share(tmp_path: Path) -> None:
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.5000000,300,44\n2023-11-16 18:00:04.5,40,9\n"
    )
    found = list(from_trace(azure, 2.0, random.Random(1), Sizes()))
    assert [one.at for one in found] == [0.0, 2.0]
    assert [len(one.turns[0].text.split()) for one in found] == [300, 40]
    assert [one.turns[0].output_tokens for one in found] == [44, 9]
    mooncake = tmp_path / "mooncake.jsonl"
    rows = [
        {"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2]},
        {"timestamp": 1000, "input_length": 1024, "output_length": 5, "hash_ids": [1, 3]},
    ]
    mooncake.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = (one.turns[0].text.split() for one in from_trace(mooncake, 1.0, random.Random(1), Sizes()))
    assert first[:512] == second[:512]
    assert first[512:600] != second[512:600]
    with pytest.raises(ConfigError, match="cannot be read"):
        list(from_trace(tmp_path / "missing.csv", 1.0, random.Random(1), Sizes()))
