"""One suite for every engine, and the engine by test matrix at the end."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.contract.engines.rigs import BRINGUPS, Rig, run_elsewhere

_outcomes: dict[str, dict[str, str]] = defaultdict(dict)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rig" in metafunc.fixturenames:
        rows = []
        for name, bringup in BRINGUPS.items():
            marks = list(bringup.marks)
            if command := run_elsewhere(name):
                marks.append(pytest.mark.skip(reason=command))
            rows.append(pytest.param(name, marks=marks, id=name))
        metafunc.parametrize("rig", rows, indirect=True)


@pytest.fixture
def q8_0_file(model_files: dict[str, Path]) -> Path:
    return model_files["q8_0"]


@pytest.fixture
def toy_file(tmp_path: Path) -> Path:
    file = tmp_path / "letters.toy"
    file.write_text("etaoin shrdlu")
    return file


class Kept:
    """Engines that take long to start, from test to test; one that a test unloaded or closed is not kept."""

    def __init__(self) -> None:
        self._rigs: dict[str, tuple[Rig, AsyncExitStack]] = {}

    async def take(self, name: str, model: Path) -> Rig:
        if name not in self._rigs:
            stack = AsyncExitStack()
            self._rigs[name] = await stack.enter_async_context(BRINGUPS[name].make(model)), stack
        return self._rigs[name][0]

    async def give_back(self, name: str) -> None:
        rig, stack = self._rigs[name]
        if rig.engine.models != (rig.loaded,):
            del self._rigs[name]
            await stack.aclose()

    async def close(self) -> None:
        for _, stack in self._rigs.values():
            await stack.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept() -> AsyncIterator[Kept]:
    engines = Kept()
    yield engines
    await engines.close()


@pytest_asyncio.fixture(loop_scope="module")
async def rig(
    request: pytest.FixtureRequest, kept: Kept, outlives_the_test: Callable[[], AbstractContextManager[None]]
) -> AsyncIterator[Rig]:
    """The engine with its model loaded; afterwards every accepted job has had exactly one final delta."""
    bringup = BRINGUPS[request.param]
    model = request.getfixturevalue(bringup.needs) if bringup.needs else None
    if bringup.kept:
        with outlives_the_test():
            ready = await kept.take(request.param, model)
        yield ready
        assert ready.failures == []
        await kept.give_back(request.param)
        return
    async with bringup.make(model) as ready:
        yield ready
        assert ready.failures == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report: pytest.TestReport = yield
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "rig" in callspec.params:
        row, column = _outcomes[callspec.params["rig"]], item.originalname  # type: ignore[attr-defined]
        if report.failed:
            row[column] = "FAIL"
        elif report.skipped:
            row[column] = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "").removeprefix(
                "Skipped: "
            )
        elif report.when == "call":
            row.setdefault(column, "ok")
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _outcomes:
        return
    terminalreporter.section("engine by test")
    names = list(_outcomes)
    tests = list(dict.fromkeys(test for row in _outcomes.values() for test in row))
    width = max(len(test) for test in tests)
    columns = {name: max(len(name), *(len(row.get(test, "-")) for test in tests)) for name, row in _outcomes.items()}
    terminalreporter.write_line(" " * width + "  " + "  ".join(name.ljust(columns[name]) for name in names))
    for test in tests:
        cells = "  ".join(_outcomes[name].get(test, "-").ljust(columns[name]) for name in names)
        terminalreporter.write_line(f"{test.ljust(width)}  {cells}")
