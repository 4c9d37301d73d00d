"""A machine in a network of its own joins over TLS: from the printed line to the first answer, and every refusal.

The namespace has one link, to the head, and no other route: as on a real second machine nothing goes over loopback.
Needs root and ``ip netns``; skipped elsewhere.
"""

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from tests.support.join_process import COMMAND, ask, joining, ready, run_to_end
from tests.support.joined import hello, join
from tests.support.plain_openai import ANSWER
from tests.support.tls_pool import Head, head


@dataclass(frozen=True)
class Namespace:
    """A network namespace with one link to this one."""

    name: str
    head_ip: str

    @property
    def within(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)


_NUMBERS = itertools.count()


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    number = (os.getpid() + 3 * next(_NUMBERS)) % 16000  # the kernel takes a link away some time after its namespace
    name, net = f"as{number}", f"10.231.{number // 64}.{number % 64 * 4}".rsplit(".", 1)
    head_ip, mac_ip = (f"{net[0]}.{int(net[1]) + one}" for one in (1, 2))
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError:
        pytest.skip("network namespaces are not allowed here")
    try:
        _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}n")
        _ip("link", "set", f"{name}n", "netns", name)
        _ip("addr", "add", f"{head_ip}/30", "dev", f"{name}h")
        _ip("link", "set", f"{name}h", "up")
        for command in (("addr", "add", f"{mac_ip}/30", "dev", f"{name}n"), ("link", "set", f"{name}n", "up")):
            _ip("-n", name, *command)
        _ip("-n", name, "link", "set", "lo", "up")
        yield Namespace(name, head_ip)
    finally:
        _ip("netns", "del", name)


@contextlib.asynccontextmanager
async def upstream(namespace: Namespace) -> AsyncIterator[str]:
    """A server inside the namespace, as Ollama would run on that machine."""
    process = await asyncio.create_subprocess_exec(
        *namespace.within, sys.executable, "-m", "tests.support.plain_openai",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def printed_line(pool: Head) -> list[str]:
    made = await pool.security.credentials.create_token(ttl_s=120, uses=1, labels={})
    return str(made["line"]).split()[2:]


async def test_a_machine_in_its_own_network_joins_by_the_printed_line_and_answers(
    namespace: Namespace, tmp_path: Path
) -> None:
    """Then: its token is used up for others, it is revoked, and stays out after the head restarts."""
    async with upstream(namespace) as url:
        more = ["--engine", "openai", "--base-url", url, "--node", "mac", "--no-benchmark"]
        mine = [*more, "--state-dir", str(tmp_path / "mac")]
        other = [*more, "--state-dir", str(tmp_path / "other")]
        async with head(tmp_path / "head", host=namespace.head_ip) as pool:
            line = await printed_line(pool)
            assert line[0].startswith(f"{namespace.head_ip}:")
            async with joining(*line, *mine, within=namespace.within) as process:
                member = await ready(pool, process)
                assert await ask(pool, member) == ANSWER
                code, err = await run_to_end(*line, *other, within=namespace.within)
                assert (code, "used already" in err) == (1, True), err
                await pool.control.revoke("mac", "sold")
                _, said = await asyncio.wait_for(process.communicate(), 60)
                assert process.returncode == 1
                assert b"revoked: sold" in said
            assert await pool.audit("join.refused") == [
                "the token was used already, with another key; make a new one for this machine"
            ]
        async with head(tmp_path / "head", host=namespace.head_ip) as pool:
            fresh = await printed_line(pool)
            code, err = await run_to_end(*fresh, *mine, within=namespace.within)
            assert (code, "revoked: sold" in err) == (1, True), err
            assert any("revoked" in reason for reason in await pool.audit("join.refused"))
            async with joining(*fresh, *other, within=namespace.within) as process:
                assert (await ready(pool, process)).profile.node == "mac-2"
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), 60)


async def test_from_another_network_wrong_tokens_are_refused(namespace: Namespace, tmp_path: Path) -> None:
    """Wrong secret and wrong CA, each with its reason; the wrong secret leaves an audit line, the wrong CA none."""
    more = ["--engine", "simulated", "--model", "sim=rtx-4090", "--state-dir", str(tmp_path / "mac")]
    async with head(tmp_path / "head", host=namespace.head_ip) as pool:
        address, flag, token = await printed_line(pool)
        code, err = await run_to_end(address, flag, token[:-4] + "zzzz", *more, within=namespace.within)
        assert (code, "not known here" in err) == (1, True), err
        code, err = await run_to_end(address, flag, "as1." + "A" * 43 + ".a.b", *more, within=namespace.within)
        assert (code, "another CA" in err) == (1, True), err
        assert len(await pool.audit("join.refused")) == 1


RECORDING = Path(__file__).parents[1] / "unit/workers/hardware/recordings/apple-m1-max-wired-limit"
HELD = pb.ModelInstance(
    model="smollm2-135m", quantization="q8_0", state=pb.MODEL_STATE_READY, parameters=134_515_008, layers=30,
    kv_heads=3, head_dim_k=64, head_dim_v=64, weights_bytes=144_810_912, context_tokens=8192, slots=4,
)  # fmt: skip


async def test_a_recorded_mac_joins_by_the_printed_line_alone(
    namespace: Namespace, tmp_path: Path, model_files: dict[str, Path]
) -> None:
    """No flag beside those printed: it finds its files, takes what the pool wants of them, loads, measures, shows what
    was expected of it, and answers. The hardware is a recording of a Mac, marked as one; the engine runs on this CPU.
    """
    models = tmp_path / "home/.local/share/allsorts/models"
    models.mkdir(parents=True)
    for file in model_files.values():
        (models / file.name).symlink_to(file)
    environment = {"HOME": str(tmp_path / "home"), "ALLSORTS_HARDWARE_RECORDING": str(RECORDING)}
    environment |= {f"XDG_{kind}_HOME": "" for kind in ("DATA", "STATE", "CACHE", "CONFIG")}
    async with head(tmp_path / "head", host=namespace.head_ip) as pool:
        other = await join(pool, await pool.token(), tmp_path / "other")
        await hello(pool, other, pb.Hello(protocol_version=1, worker_id=other.membership.worker_id, models=[HELD]))
        line = await printed_line(pool)
        async with joining(*line, within=namespace.within, environment=environment, program=COMMAND) as process:
            member = await ready(pool, process)
            assert member.profile.hardware.name == "Apple M1 Max"
            assert member.profile.hardware.details["recording"] == RECORDING.name
            assert member.models["smollm2-135m", "q8_0"].speed
            assert "Paris" in await ask(pool, member)
            process.send_signal(signal.SIGTERM)
            said = (await asyncio.wait_for(process.communicate(), 60))[1].decode()
    for step in ("this machine: Apple M1 Max", "engine: llama.cpp", "let in as", "serving smollm2-135m@q8_0", "wanted"):
        assert step in said, said
    for step in (" loading ", " benchmarking ", "is serving"):
        assert step in said, said
    expected = re.search(r"tokens/s, one stream +([0-9.]+) +([0-9.]+) +([0-9.]+)", said)
    assert expected, said
    assert float(expected[1]) > 0
    assert float(expected[3]) == pytest.approx(float(expected[2]) / float(expected[1]), abs=0.01)
