"""What all tests share: the model's files, and the check that nothing is left running."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from tests.support.draws import draws_do_not_depend_on_imports
from tests.support.leftovers import Leftovers
from tests.support.loop_steps import TOO_LONG, LoopSteps
from tests.support.processes import command_line
from workers.neighbours.place import VARIABLE as MACHINE

REPOSITORY = Path(__file__).parent.parent
MODELS = Path(os.environ.get("ALLSORTS_MODELS", REPOSITORY / "build" / "models"))
SETTLE_S = 20.0

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two engines with two threads each collapse on two cores
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_configure(config: pytest.Config) -> None:
    if find_spec("hypothesis"):  # an environment of one role may do without
        draws_do_not_depend_on_imports()
    leftovers = Leftovers()
    leftovers.watch_in("router.scheduling.scheduler", "Scheduler", lambda one: repr(one) if len(one) else "")
    config.pluginmanager.register(leftovers, "leftovers")
    config.pluginmanager.register(LoopSteps(), "loop steps")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes a file's tests stay together, and so do all that share the end-to-end pools.

    A step that was too long is looked at once more: a virtual machine counts time to us that its host took. So is a
    test of several processes, which a host may stop in any order; what failed once is listed as RERUN, and is a fault.
    """
    again = config.pluginmanager.hasplugin("rerunfailures")
    for item in items:
        file = item.path.relative_to(REPOSITORY).as_posix()
        if again:
            several = file.startswith(("tests/e2e/", "tests/integration/"))
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=None if several else [TOO_LONG]))
        item.add_marker(pytest.mark.xdist_group("e2e" if file.startswith("tests/e2e/") else file))


@pytest.fixture(scope="session")
def model_files() -> dict[str, Path]:
    """GGUF files by quantization, made from the packaged weights when they are missing."""
    from workers.models.smollm2 import make, quieten_llama

    quieten_llama()
    return make(MODELS, ["q8_0", "q4_k_m"])


@pytest.fixture(scope="session")
def awq_folder() -> Path:
    """The small AWQ model, which the environment of vLLM makes (``make env-vllm``)."""
    folder = MODELS / "smollm2-135m-awq"
    assert (folder / "config.json").exists(), f"{folder} is missing; make it with: make env-vllm"
    return folder


@pytest.fixture(scope="session", autouse=True)
def a_machine_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Workers of this run take turns with one another, not with whatever else is measured on this machine."""
    os.environ.setdefault(MACHINE, str(tmp_path_factory.mktemp("machine")))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """The suite's own check: every process that tests started has ended, and no socket of ours still listens."""
    here = psutil.Process()
    before = {child.pid for child in here.children(recursive=True)}
    listening_before = _listening(here)
    yield
    started = [child for child in here.children(recursive=True) if child.pid not in before]
    _, left = psutil.wait_procs(started, timeout=SETTLE_S)
    left = [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE and not _pythons_own(one)]
    assert not left, f"left running: {[command_line(one)[:200] for one in left]}"
    ports = _listening(here) - listening_before
    assert not ports, f"still listening on {sorted(ports)}"


@pytest.fixture(autouse=True)
def logging_ends_with_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that a test runs in this process logs to that test's captured stream, which is closed afterwards."""
    monkeypatch.setattr(structlog, "configure", partial(_configured, structlog.configure))
    yield
    structlog.reset_defaults()


def _configured(configure: Callable[..., None], **settings: Any) -> None:
    """Without the cache: a logger keeps its stream in there."""
    configure(**{**settings, "cache_logger_on_first_use": False})


def _pythons_own(process: psutil.Process) -> bool:
    """multiprocessing's resource tracker lives as long as the process that first needed it."""
    return "multiprocessing.resource_tracker" in command_line(process)


def _listening(process: psutil.Process) -> set[int]:
    connections = process.net_connections(kind="tcp")
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}
