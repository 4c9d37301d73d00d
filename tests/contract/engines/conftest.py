"""One suite for every engine, and the engine by test matrix at the end."""

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.engines.rigs import BRINGUPS, Rig, missing_module

_outcomes: dict[str, dict[str, str]] = defaultdict(dict)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rig" in metafunc.fixturenames:
        rows = []
        for name, bringup in BRINGUPS.items():
            marks = [pytest.mark.model] if bringup.needs_model else []
            if module := missing_module(name):
                marks.append(pytest.mark.skip(reason=f"{module} is not installed here"))
            rows.append(pytest.param(name, marks=marks, id=name))
        metafunc.parametrize("rig", rows, indirect=True)


@pytest.fixture
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """The engine with its model loaded; afterwards every accepted job has had exactly one final delta."""
    bringup = BRINGUPS[request.param]
    model = request.getfixturevalue("model_files")["q8_0"] if bringup.needs_model else None
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
