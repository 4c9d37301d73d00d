"""The actor around a worker, without Ray around it: what it starts, what it does when that ends, how it stops it."""

import stat
import sys
from pathlib import Path

import psutil
import pytest

from router.fleet.node_runner import WORKER_LABEL, WayIn, WorkerSpec
from router.ray import worker_actor
from router.ray.worker_actor import WorkerActor, as_toml, interpreter, worker_config
from tests.support.until import until
from workers.config import read_config

SPEC = WorkerSpec(
    name="big-awq-1",
    node_id="n1",
    engine="vllm",
    model="big",
    quantization="awq",
    path='/models/it\'s "big"',
    context_tokens=4096,
    slots=8,
    gpus=4,
    labels={"site": "lab"},
    order="o-1",
)


def test_the_worker_reads_what_was_written_for_it(tmp_path: Path) -> None:
    """Names with quotes too; several GPUs mean tensor parallel; it is known again by its label."""
    file = tmp_path / "worker.toml"
    file.write_text(as_toml(worker_config(SPEC, WayIn(routers=("10.0.0.1:8100", "10.0.0.2:8101")), tmp_path)))
    config = read_config(file)
    assert config.routers == ("10.0.0.1:8100", "10.0.0.2:8101")
    assert config.labels == {"site": "lab", WORKER_LABEL: "big-awq-1"}
    (model,) = config.models
    assert (model.name, model.path, model.order) == ("big", '/models/it\'s "big"', "o-1")
    assert (model.context_tokens, model.slots, model.options) == (4096, 8, {"tensor_parallel": 4})


def test_where_certificates_are_asked_for_it_is_told_where_to_be_let_in(tmp_path: Path) -> None:
    """And with what; routers it is told of there."""
    file = tmp_path / "worker.toml"
    file.write_text(as_toml(worker_config(SPEC, WayIn(enrol="10.0.0.1:8099", token="as1.x"), tmp_path)))
    config = read_config(file)
    assert (config.enrol, config.token) == ("10.0.0.1:8099", "as1.x")


def test_nobody_else_reads_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the file nor where the way in is printed."""
    program(tmp_path, monkeypatch, "exec sleep 60")
    way = WayIn(enrol="10.0.0.1:8099", token="as1.secret")
    actor = WorkerActor(SPEC, way)
    assert stat.S_IMODE(actor._config.stat().st_mode) == 0o600
    assert "secret" not in repr(way)
    until(actor.process_id, "it runs")
    actor._stopping.set()
    actor.end_worker(5.0)


@pytest.mark.parametrize(("engine", "gpus"), [("vllm", 1), ("vllm", 0), ("simulated", 8), ("llama.cpp", 2)])
def test_only_vllm_on_several_gpus_is_told_to_share_them(tmp_path: Path, engine: str, gpus: int) -> None:
    """Other engines have no such option."""
    from dataclasses import replace

    config = worker_config(replace(SPEC, engine=engine, gpus=gpus), WayIn(), tmp_path)
    assert config["models"][0]["options"] == {}  # type: ignore[index]


def test_an_engine_may_have_an_interpreter_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by the node's environment; without, the actor's."""
    monkeypatch.setenv("ALLSORTS_PYTHON_VLLM", "/opt/vllm/bin/python")
    assert interpreter("vllm") == "/opt/vllm/bin/python"
    assert interpreter("simulated") == sys.executable


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """In the interpreter's place."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("ALLSORTS_PYTHON_VLLM", str(file))


def test_a_worker_that_crashes_is_started_again_and_in_the_end_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it said last, in one line."""
    monkeypatch.setattr(worker_actor, "FIRST_WAIT_S", 0.001)
    program(tmp_path, monkeypatch, f'echo started >> {tmp_path}/starts; echo "no such model"; exit 3')
    actor = WorkerActor(SPEC, WayIn(routers=("127.0.0.1:1",)))
    until(lambda: not actor.status()[1], "it is given up")
    assert actor.status() == ("n1", False, "it ended 6 times in a row, last with 3: no such model")
    assert len((tmp_path / "starts").read_text().splitlines()) == worker_actor.MAX_CRASHES
    assert actor.process_id() == 0


def test_a_worker_is_asked_to_stop_and_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM first: it drains by itself."""
    trap = f"trap 'echo drained > {tmp_path}/said; exit 0' TERM; touch {tmp_path}/up; while :; do sleep 0.02; done"
    program(tmp_path, monkeypatch, trap)
    actor = WorkerActor(SPEC, WayIn(routers=("127.0.0.1:1",)))
    until((tmp_path / "up").exists, "it runs")
    process = psutil.Process(actor.process_id())
    actor._stopping.set()
    actor.end_worker(5.0)
    assert (tmp_path / "said").read_text() == "drained\n"
    assert not process.is_running()
    assert actor.process_id() == 0
