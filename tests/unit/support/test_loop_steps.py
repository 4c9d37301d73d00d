"""Rule: a slow step of the router's own fails the test in which it ran, by name; nobody else's does."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

_CONFTEST = """
from tests.support.loop_steps import LoopSteps

def pytest_configure(config):
    config.addinivalue_line("markers", "loop_may_stall: x")
    config.pluginmanager.register(LoopSteps())
"""

_ROUTER = """
import time

async def step(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1000))
"""

_TESTS = """
import asyncio, gc
import pytest
from router_under_test.router.slow import step

def in_the_loop(seconds):
    async def main():
        await asyncio.gather(asyncio.create_task(step(seconds)))
    asyncio.run(main())

def test_quick():
    in_the_loop(0.005)

def test_slow():
    in_the_loop(0.2)

@pytest.mark.loop_may_stall
def test_slow_and_may_be():
    in_the_loop(0.2)

def test_a_slow_test_that_calls_the_router():
    async def main():
        await step(0.2)
    asyncio.run(main())

def test_the_garbage_collector():
    async def main():
        kept = [[i] for i in range(3_000_000)]
        await asyncio.gather(asyncio.create_task(collect()))
    async def collect():
        gc.collect()
    asyncio.run(main())
"""


def test_only_the_routers_slow_steps_fail_and_only_their_test(tmp_path: Path) -> None:
    """In a run of its own: what fails there is what is looked at."""
    package = tmp_path / "router_under_test" / "router"
    package.mkdir(parents=True)
    (package / "slow.py").write_text(_ROUTER)
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_steps.py").write_text(_TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "1 failed, 4 passed" in done.stdout, done.stdout
    assert "FAILED test_steps.py::test_slow - " in done.stdout
    assert "step (slow.py) held the event loop for 0.2" in done.stdout
