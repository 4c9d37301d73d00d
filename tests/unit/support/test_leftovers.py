"""Rule: what a test leaves over fails that test, by name, and neither the one before nor the one after."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

_CONFTEST = """
import pytest
from tests.support.leftovers import Leftovers

class Book:
    def __init__(self):
        self.claims = 0

def pytest_configure(config):
    leftovers = Leftovers()
    leftovers.watch(Book, lambda book: f"{book.claims} claims" if book.claims else "")
    config.pluginmanager.register(leftovers)

@pytest.fixture(scope="module")
def server():
    import socket
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one
"""
_TESTS = """
import asyncio, socket, subprocess, sys
import pytest
from conftest import Book
from tests.support import leftovers

leftovers.SETTLE_S = 0.2
kept = []

def test_clean(server):
    pass

async def test_leaves_a_task():
    kept.append(asyncio.create_task(asyncio.Event().wait()))

def test_leaves_a_task_in_a_loop_of_its_own():
    asyncio.run(test_leaves_a_task())

def test_leaves_a_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_leaves_a_port():
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_leaves_a_claim():
    Book().claims = 2

@pytest.mark.holds_claims
def test_clean_by_its_mark():
    Book().claims = 2

async def test_leaves_an_exception_that_nobody_took():
    async def fail():
        raise ValueError("lost")
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)

async def test_leaves_a_coroutine_that_nobody_awaited():
    async def never():
        pass
    cycle = [never()]
    cycle.append(cycle)

async def test_clean_after_them():
    await asyncio.create_task(asyncio.sleep(0))

def test_that_ends_what_the_others_left():
    for one in kept:
        if isinstance(one, subprocess.Popen):
            one.communicate()
        elif isinstance(one, socket.socket):
            one.close()
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What pytest said of each test that did not pass: its short line."""
    folder: Path = tmp_path_factory.mktemp("leftovers")
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "test_leaving.py").write_text(_TESTS)
    command = [
        sys.executable, "-m", "pytest", "-q", "-rfE", "-c", str(REPOSITORY / "pyproject.toml"),
        "--rootdir", str(folder), str(folder),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "300"}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False).stdout
    found = dict(re.findall(r"^(?:ERROR|FAILED) \S+::(\w+)(.*)$", output, re.MULTILINE))
    assert "11 passed" in output, output
    return found


@pytest.mark.parametrize(
    ("test", "left"),
    [
        ("test_leaves_a_task", "task <Task"),
        ("test_leaves_a_task_in_a_loop_of_its_own", "task <Task"),
        ("test_leaves_a_child", "child process"),
        ("test_leaves_a_port", "listening on port"),
        ("test_leaves_a_claim", "2 claims"),
        ("test_leaves_an_exception_that_nobody_took", "never retrieved"),
        ("test_leaves_a_coroutine_that_nobody_awaited", "Exception ignored in: <coroutine"),
    ],
)
def test_what_is_left_over_fails_its_test(said: dict[str, str], test: str, left: str) -> None:
    assert left in said[test]


def test_nobody_else_is_blamed(said: dict[str, str]) -> None:
    """Not for what a wider fixture keeps, not for what an earlier test left, not where a rule wants a claim held."""
    assert not [test for test in said if "leaves" not in test]
