"""``make bench-mixed``: a machine behind an OpenAI face, and who did best."""

import asyncio
import json
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from loadtest.bench.mixed import __main__ as bench
from loadtest.bench.mixed.__main__ import as_if_not_slowed, versus
from loadtest.bench.mixed.face import Connection, Machine
from loadtest.bench.mixed.machines import machines
from tests.support.until import until_async
from workers.engines.simulated.profile import read_profile

PROFILE = """machine = "h100-sxm"
[model]
shape = "llama-3.1-8b"
quantization = "fp16"
context_tokens = 2048
[behaviour]
load_s = 0.0
"""


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    profile = tmp_path / "h100.toml"
    profile.write_text(PROFILE)
    one = Machine("h100", "llama-3.1-8b")
    await one.load(str(profile))
    speaking = asyncio.create_task(one.speak())
    yield one
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    await one.engine.close()


@pytest.fixture
async def url(machine: Machine) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(machine), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


def body(**more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": "word " * 50}]
    return {"model": "llama-3.1-8b", "messages": messages, "stream": True, "ignore_eos": True, **more}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_face_streams_what_the_engine_says_and_counts_it(url: str, field: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body(**{field: 12})) as reply,
    ):
        assert reply.headers["x-allsorts-worker"] == "h100"
        lines = [line for line in (await reply.text()).split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert len(text.split()) == 12
    assert events[-1]["usage"]["completion_tokens"] == 12
    assert events[-1]["usage"]["prompt_tokens"] >= 50


async def test_what_does_not_fit_is_refused_and_the_next_is_served(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/v1/chat/completions", json=body(max_tokens=4000)) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["code"] == "context_length_exceeded"
        async with session.get(f"{url}/v1/models") as reply:
            assert [one["id"] for one in (await reply.json())["data"]] == ["llama-3.1-8b"]
        async with session.get(f"{url}/health") as reply:
            assert reply.status == 200


async def test_a_client_that_hangs_up_frees_its_slot(url: str, machine: Machine) -> None:
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{url}/v1/chat/completions", json=body(max_tokens=1500))
        assert machine.engine.load_figures().running == 1
        reply.close()
    await until_async(lambda: machine.engine.load_figures().running == 0)


def test_a_fleet_s_machines_are_what_its_file_says(tmp_path: Path) -> None:
    found = machines(Path("deploy/fleets/six_machines.toml"), tmp_path)
    assert [one.node for one in found] == ["h100", "a100", "rtx-4090", "m2-ultra", "m4-pro", "m1"]
    profiles = [read_profile(str(one.profile)) for one in found]
    alone = [profile.declared.decode_s(1, 1000.0) for profile in profiles]
    assert max(alone) / min(alone) > 8
    assert {profile.shape_name for profile in profiles} == {"llama-3.1-8b"}


@pytest.mark.parametrize("slowed", [1.0, 2.5, 8.0])
def test_slowed_machines_are_slower_in_everything_and_say_so(tmp_path: Path, slowed: float) -> None:
    """Nothing is drawn otherwise: what is hidden of a machine stays the same share."""
    (tmp_path / "slowed").mkdir()
    asked, given = Path("deploy/fleets/six_machines.toml"), tmp_path / "slowed"
    for fast, slow in zip(machines(asked, tmp_path), machines(asked, given, slowed=slowed), strict=True):
        one, other = read_profile(str(fast.profile)), read_profile(str(slow.profile))
        for was, now in ((one.declared, other.declared), (one.true, other.true)):
            for kind in ("base_s", "per_sequence_s", "per_context_token_s", "prefill_token_s"):
                assert getattr(now, kind) == pytest.approx(slowed * getattr(was, kind))
            assert (now.slots, now.kv_capacity_tokens) == (was.slots, was.kv_capacity_tokens)
        assert other.machine.bandwidth_bytes_per_s == pytest.approx(one.machine.bandwidth_bytes_per_s / slowed)


def test_a_slowed_run_tells_figures_as_if_it_were_not() -> None:
    told = {"offered_per_s": 4.0, "goodput_per_s": 3.0, "within_slo": 0.75,
            "ttft_s": {"p50": 1.2}, "e2e_s": {"p50": 6.0}, "tpot_s": {"p50": 0.06, "p99": 0.3}}  # fmt: skip
    found = as_if_not_slowed(told, 3.0)
    assert (found["offered_per_s"], found["goodput_per_s"], found["within_slo"]) == (12.0, 9.0, 0.75)
    assert found["ttft_s"] == {"p50": pytest.approx(0.4)}
    assert found["tpot_s"] == {"p50": pytest.approx(0.02), "p99": pytest.approx(0.1)}


def test_the_best_peer_is_the_best_at_any_load() -> None:
    rows = [
        {"router": name, "rate": rate, "goodput_per_s": good, "within_slo": good / rate}
        for name, goods in (("ours", (4.0, 15.0)), ("a:x", (3.9, 6.0)), ("a:y", (2.0, 7.5)))
        for rate, good in zip((4.0, 16.0), goods, strict=True)
    ]
    found = versus(rows, "ours")
    assert (found["best"], found["by_rate"]) == (2.0, {"4": 1.026, "16": 2.0})
    assert found["sustained"] == {"ours": 4.0, "a:x": 3.9, "a:y": 0.0}


@pytest.mark.parametrize("together", [True, False])
def test_what_was_measured_before_is_not_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, together: bool
) -> None:
    """Missing runs are made, all of a rate together or one after the other; every run is told."""
    told = {"offered_per_s": 4.0, "goodput_per_s": 3.0, "ttft_s": {}, "e2e_s": {}, "tpot_s": {},
            "generator": {"limits": []}}  # fmt: skip
    made: list[list[str]] = []

    def run(names: list[str], rate: float, number: int, _options: Namespace) -> None:
        made.append([f"{name} {rate:g} {number}" for name in names])
        for name in names:
            path = bench._report_of(name, rate, number)
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(told))

    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(bench, "_run", run)
    options = Namespace(together=together, rounds=1, slowed=2.0)
    assert len(list(bench._runs(options, ["ours", "a:x"], [8.0]))) == 2
    options.rounds = 2
    found = list(bench._runs(options, ["ours", "a:x"], [8.0]))
    assert [one["as"] for one in found] == 2 * [("ours", 8.0), ("a:x", 8.0)]
    assert {one["goodput_per_s"] for one in found} == {6.0}
    asked = [one for one in made if one]
    first, second = (["ours 8 1", "a:x 8 1"], ["ours 8 2", "a:x 8 2"])
    assert asked == ([first, second] if together else [[one] for one in first + second])
