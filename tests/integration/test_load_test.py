"""Load tests as they are run: locust in processes of its own, against a server that is none of ours."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from loadtest.locust.cli import LOCUSTFILE, run_locust
from loadtest.locust.options import Options
from tests.support.plain_openai import plain_openai

DEADLINE_S = 150.0

OWN_USER = """
import itertools
from loadtest.locust.locustfile import *
from loadtest.locust.locustfile import Person
from loadtest.locust.workloads.sessions import Session, Turn

Person.abstract = True

class Reviewer(OpenAIUser):
    def sessions(rng, sizes):
        for number in itertools.count():
            asks = (Turn(text="Review this.", output_tokens=20), Turn(text="Shorter.", output_tokens=8))
            yield Session(number=number, at=float(number), kind="review", turns=asks)
"""


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_against_any_server_ends_by_itself_with_a_report(tmp_path: Path, processes: int) -> None:
    """Alone, and as a master with workers: the same sessions are sent, each once, and all answers are counted."""
    folder = tmp_path / "run"
    with plain_openai() as url:
        options = Options(url=url, rate=10.0, duration_s=2.0, scale=0.05, out=str(folder), drain_s=20.0)
        assert run_locust(options, processes=processes) == 0
    kept, found = rows(folder), report(folder)
    assert found["requests"] == found["complete"] == len(kept) > 5
    assert len({row["session"] for row in kept}) == len(kept)
    assert all(row["completion_tokens"] == 6 for row in kept)
    assert found["generator"]["processes"] == processes
    assert found["agreement"] is None
    assert "</html>" in (folder / "report.html").read_text()


def test_users_of_ones_own_are_a_page_of_code(tmp_path: Path) -> None:
    file, folder = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(OWN_USER)
    with plain_openai() as url:
        command = [sys.executable, "-m", "locust", "-f", str(file), "--host", url, "--headless", "--only-summary",
                   "--rate", "4", "--duration", "4", "--out", str(folder)]  # fmt: skip
        subprocess.run(command, timeout=DEADLINE_S, check=True, capture_output=True)
    kept = rows(folder)
    assert {row["kind"] for row in kept} == {"review"}
    assert {row["turn"] for row in kept} == {0, 1}


def test_a_closed_loop_of_users(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with plain_openai() as url:
        options = Options(url=url, workload="mix", closed=4, duration_s=4.0, scale=0.05, out=str(folder))
        assert run_locust(options) == 0
    found = report(folder)
    assert found["complete"] == found["requests"] > 4
    assert set(found["kinds"]) & {"azure-like", "code-like"}


def test_where_nobody_listens_it_says_so_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--headless"]
        done = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "does a server run there?" in done.stderr
    assert "Traceback" not in done.stderr


def test_where_somebody_listens_and_never_answers_it_says_so_too(tmp_path: Path) -> None:
    """Locust goes on asking for users while the endpoint is being asked what it is."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(16)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--headless",
                   "--model", "tiny", "--deadline", "3", "--exit-code-on-error", "0"]  # fmt: skip
        done = subprocess.run(command, timeout=DEADLINE_S, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "load test: no answer" in done.stderr


def test_locust_s_own_page_starts_a_run(tmp_path: Path) -> None:
    """The page listens on loopback alone, shows our settings, and its button makes a run with a report."""
    folder = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with plain_openai() as url:
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url, "--web-host", "127.0.0.1",
                   "--web-port", str(port), "--duration", "1", "--rate", "8", "--out", str(folder)]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as locust:
            try:
                page = _until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60).read())
                assert b"at_workload" in page
                form = b"user_count=1&spawn_rate=1&host=" + url.encode()
                urllib.request.urlopen(f"http://127.0.0.1:{port}/swarm", data=form, timeout=60).read()
                _until((folder / "report.json").read_text)
            finally:
                locust.terminate()
                locust.wait(20)
    assert report(folder)["complete"] > 0


def _until(attempt: Any) -> Any:
    """What it returns once it raises no OSError."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
