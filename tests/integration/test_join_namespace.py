"""A machine in a network of its own joins over TLS: from the printed line to the first answer, and every refusal.

The namespace has one link, to the head, and no other route: as on a real second machine nothing goes over loopback.
Needs root and ``ip netns``; skipped elsewhere.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.join_process import ask, joining, ready, run_to_end
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
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


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
        yield (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
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
                _, said = await asyncio.wait_for(process.communicate(), 30)
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
                await asyncio.wait_for(process.wait(), 30)


async def test_from_another_network_wrong_tokens_are_refused(namespace: Namespace, tmp_path: Path) -> None:
    """Wrong secret and wrong CA, each with its reason; the wrong secret leaves an audit line, the wrong CA none."""
    more = ["--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "--state-dir", str(tmp_path / "mac")]
    async with head(tmp_path / "head", host=namespace.head_ip) as pool:
        address, flag, token = await printed_line(pool)
        code, err = await run_to_end(address, flag, token[:-4] + "zzzz", *more, within=namespace.within)
        assert (code, "not known here" in err) == (1, True), err
        code, err = await run_to_end(address, flag, "as1." + "A" * 43 + ".a.b", *more, within=namespace.within)
        assert (code, "another CA" in err) == (1, True), err
        assert len(await pool.audit("join.refused")) == 1
