"""What a test leaves over fails that test: tasks, child processes, listening ports, claims, complaints of asyncio.

A pytest plugin. What a fixture of a wider scope has started belongs to that fixture, and the session's own check in
``conftest.py`` looks for it at the end. What a test leaves is reported once: the next test starts from there.
"""

import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.support.processes import command_line
from tests.support.until import until

SETTLE_S = 20.0
"""A server's threads may close its sockets, and a child may end, a moment after they were told to."""

GRPCS_POLLER = "PollerCompletionQueue._handle_events"
"""gRPC has one poller for all event loops of a process; it complains when one of them has been closed."""

_TASKS = Path("/proc/self/task")
_FILES = Path("/proc/self/fd")


class Started(NamedTuple):
    """What this process has running now."""

    children: frozenset[int]
    ports: frozenset[int]

    def beyond(self, other: "Started") -> "Started":
        return Started(self.children - other.children, self.ports - other.ports)

    def and_also(self, other: "Started") -> "Started":
        return Started(self.children | other.children, self.ports | other.ports)

    def in_words(self) -> list[str]:
        return [f"child process {child}: {_command(child)}" for child in sorted(self.children)] + [
            f"still listening on port {port}" for port in sorted(self.ports)
        ]


NOTHING = Started(frozenset(), frozenset())


def started() -> Started:
    """Now, and cheaply: a tenth of a millisecond where there is /proc."""
    if not _TASKS.exists():
        return Started(frozenset(one.pid for one in psutil.Process().children()), frozenset(_listening_by_psutil()))
    return Started(frozenset(_children()), frozenset(_listening()))


class Complaints(logging.Handler):
    """What asyncio logs as an error: an exception nobody took, a task destroyed while it waited."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if GRPCS_POLLER not in (message := record.getMessage()):
            self.heard.append(f"asyncio: {message}")


class Leftovers:
    """The plugin. ``watch`` adds classes whose objects may hold claims."""

    def __init__(self) -> None:
        self._allowed = NOTHING  # of fixtures that outlive the test, and what was reported already
        self._tasks: list[str] = []  # that ran when their event loop was closed
        self._complaints = Complaints()
        self._loops = 0  # closed since the last look
        self._holders: dict[type, Callable[[Any], str]] = {}
        self._built: list[Any] = []
        self._to_watch: list[tuple[str, str, Callable[[Any], str]]] = []
        self._cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def watch_in(self, module: str, holder: str, what_is_left: Callable[[Any], str]) -> None:
        """``watch``, if any test imports that module: an environment for workers alone has no router."""
        self._to_watch.append((module, holder, what_is_left))

    def watch(self, holder: type, what_is_left: Callable[[Any], str]) -> None:
        """Every ``holder`` that a test builds is asked, when the test is over, what it still holds; "" for nothing."""
        build = holder.__init__
        self._holders[holder] = what_is_left

        @wraps(build)
        def building(built: Any, *args: Any, **named: Any) -> None:
            build(built, *args, **named)
            self._built.append(built)

        holder.__init__ = building  # type: ignore[misc]

    # -- hooks -------------------------------------------------------------------------------------------

    def pytest_configure(self) -> None:
        asyncio.runners._cancel_all_tasks = self._closing  # type: ignore[attr-defined]
        logging.getLogger("asyncio").addHandler(self._complaints)

    def pytest_unconfigure(self) -> None:
        asyncio.runners._cancel_all_tasks = self._cancel_all_tasks  # type: ignore[attr-defined]
        logging.getLogger("asyncio").removeHandler(self._complaints)

    def pytest_collection_finish(self) -> None:
        """What was imported stays: to look for garbage takes half a millisecond without it, 90 with it."""
        for module, holder, what_is_left in self._to_watch:
            if module in sys.modules:
                self.watch(getattr(sys.modules[module], holder), what_is_left)
        gc.collect()
        gc.freeze()
        self._allowed = started()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Any:
        if fixturedef.scope == "function":
            return (yield)
        with self._outliving():
            return (yield)

    @pytest.fixture
    def outlives_the_test(self) -> Callable[[], AbstractContextManager[None]]:
        """For what a test starts for those after it: ``with outlives_the_test(): …``."""
        return self._outliving

    @contextmanager
    def _outliving(self) -> Iterator[None]:
        before = started()
        try:
            yield
        finally:
            self._allowed = self._allowed.and_also(started().beyond(before))

    @pytest.fixture(autouse=True)
    def nothing_is_left_over(self, request: pytest.FixtureRequest) -> Iterator[None]:
        yield
        if self._loops:
            gc.collect()  # a coroutine that nobody awaited, an exception that nobody took
        found = self._settled().in_words() + [f"task {task}" for task in self._tasks] + self._complaints.heard
        if "holds_claims" not in request.keywords:
            found += [left for built in self._built if (left := self._holders[type(built)](built))]
        self._forget()
        assert not found, "left over: " + "; ".join(found)

    # -- looking -----------------------------------------------------------------------------------------

    def _closing(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the place of what ``asyncio.Runner`` calls as it closes its loop."""
        self._loops += 1
        self._tasks += [repr(task) for task in asyncio.all_tasks(loop)]
        self._cancel_all_tasks(loop)

    def _settled(self) -> Started:
        """What was started and has not ended; the next test is not asked about it."""
        try:
            until(lambda: not any(started().beyond(self._allowed)), within_s=SETTLE_S)
        except AssertionError:
            found = started().beyond(self._allowed)
            self._allowed = self._allowed.and_also(found)
            return found
        return NOTHING

    def _forget(self) -> None:
        self._loops = 0
        for kept in (self._tasks, self._complaints.heard, self._built):
            kept.clear()


def _children() -> Iterator[int]:
    for thread in _TASKS.iterdir():
        try:
            pids = (thread / "children").read_bytes().split()
        except OSError:  # the thread has ended
            continue
        yield from (int(pid) for pid in pids if not _pythons_own(int(pid)))


def _listening() -> Iterator[int]:
    for file in _FILES.iterdir():
        try:
            if str(file.readlink()).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(file.name))) as one:
                    if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and one.family in _INTERNET:
                        yield one.getsockname()[1]
        except OSError:  # closed meanwhile
            continue


_INTERNET = (socket.AF_INET, socket.AF_INET6)


def _listening_by_psutil() -> set[int]:
    connections = psutil.Process().net_connections(kind="tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def _pythons_own(child: int) -> bool:
    """multiprocessing's resource tracker lives as long as the process that first needed it; a zombie is no process."""
    return "multiprocessing.resource_tracker" in (command := _command(child)) or not command


def _command(child: int) -> str:
    try:
        return command_line(psutil.Process(child))[:200]
    except psutil.NoSuchProcess:
        return ""
