"""Protocol N and N-1 together, as on the day of an upgrade: the code of the last commit that spoke protocol 1, in
processes of its own, against today's. The router is upgraded first, but a worker that was first must do no harm either.
"""

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from protos.contract.joining.versions import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION
from tests.support.pool import free_port
from tests.support.until import until

PREVIOUS = "2f91025cfd3597f4a968be00d2fe40391dfc0490"
"""The last commit that spoke protocol 1 alone."""

TODAY = Path(__file__).parents[2]
MODEL = "sim"


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its code, from the history; skipped where there is none (a copy without git, a shallow clone)."""
    found = subprocess.run(
        ["git", "-C", str(TODAY), "archive", PREVIOUS, "router", "workers", "protos"], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"no history here with the previous protocol: {found.stderr.decode().strip().splitlines()[-1:]}")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@contextmanager
def process(code: Path, log: Path, module: str, *arguments: str) -> Iterator[None]:
    """A command of ours, of this code."""
    environment = {**os.environ, "PYTHONPATH": str(code), "ALLSORTS_WORKER_BENCHMARK": "off"}
    with log.open("wb") as output:
        made = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=environment, cwd=code, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            made.send_signal(signal.SIGTERM)
            try:
                made.wait(30)
            except subprocess.TimeoutExpired:
                made.kill()
                made.wait()


def _answer(url: str) -> str:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    try:
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        return str(reply.json()["choices"][0]["message"]["content"]) if reply.status_code == 200 else ""
    except httpx.HTTPError:
        return ""


@pytest.mark.parametrize("older", ["worker", "router"])
def test_one_version_older_goes_on(previous: Path, tmp_path: Path, older: str) -> None:
    """It answers, and its session does not break."""
    port, grpc_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    router_code = previous if older == "router" else TODAY
    node, code = ("then", previous) if older == "worker" else ("now", TODAY)
    assert (OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION) == (1, 2), "pin another commit: the last of the version before"
    ports = ("--port", str(port), "--grpc-port", str(grpc_port), "--state-dir", str(tmp_path / "head"))
    with process(router_code, tmp_path / "router.log", "router.cli.main", "serve", "--without-ray", *ports):
        more = ("--node", node, "--engine", "simulated", "--model", f"{MODEL}=rtx-4090")
        folder = ("--state-dir", str(tmp_path / node))
        log = tmp_path / f"{node}.log"
        with process(code, log, "workers.cli.worker", "--router", f"127.0.0.1:{grpc_port}", *more, *folder):
            until(lambda: _answer(url), log.read_text, within_s=60)
            (worker,) = [one for one in _workers(url) if one["node"] == node]
            assert worker["protocol_version"] == (1 if code is previous else 2)
            said = log.read_text()
            assert said.count("session.opened") == 1, said
            assert "session.failed" not in said.partition("session.opened")[2], said
        if older == "router":
            _hold_files(tmp_path, grpc_port)


def _hold_files(tmp_path: Path, grpc_port: int) -> None:
    """A worker of today's that holds models' files tells nothing of them to a router that does not know such events:
    it would end the session. This one's only model cannot be loaded, which is told all the same.
    """
    pytest.importorskip("llama_cpp")
    model, log = tmp_path / "models" / "broken-q8_0.gguf", tmp_path / "holds.log"
    model.parent.mkdir()
    model.write_bytes(b"GGUF" + bytes(100))
    more = ("--models", str(model.parent), "--model", f"broken={model}", "--state-dir", str(tmp_path / "holds"))
    with process(TODAY, log, "workers.cli.worker", "--router", f"127.0.0.1:{grpc_port}", *more):
        until((tmp_path / "holds" / "model-hashes.json").exists, log.read_text, within_s=60)  # then it tells
        until(lambda: "session.opened" in log.read_text(), log.read_text)
    said = log.read_text()
    assert "worker.complete" in said, said
    assert "session.failed" not in said.partition("session.opened")[2], said


def _workers(url: str) -> list[dict[str, object]]:
    return list(httpx.get(f"{url}/admin/fleet", timeout=60).json()["workers"])
