"""``make test-clients``: a pool as ``make up`` starts it, every client against it, and a table client by feature.

Run with the router's own interpreter; ``--python`` is that of the clients' environment. Figures go to ``--out`` under
``rows``, beside whatever else stands there; rows of clients that are not asked now stay. The exit
status is that of the worst cell.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.clients.table import CLIENTS, Row, print_table, read_rows

READY_S = 240.0
CLIENT_S = 240.0
"""For all of one client's features."""


def main() -> int:
    """0 when every cell is ok or says why it cannot be."""
    wanted = _arguments()
    names = wanted.clients.split(",") if wanted.clients else list(CLIENTS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = wanted.url or stack.enter_context(_pool(Path(folder), without_ray=wanted.without_ray))
        for name in names:
            found = _run(name, wanted.python, wanted.proxy, url, Path(folder))
            rows += found
            print(f"{name}: " + ", ".join(f"{row.feature} {row.verdict}" for row in found), flush=True)
    print_table(rows)
    _write(Path(wanted.out), rows)
    bad = [row for row in rows if not (row.verdict == "ok" or row.verdict.startswith("cannot: "))]
    for row in bad:
        print(f"\n{row.client}, {row.feature}: {row.verdict}\n{row.detail}")
    print(f"{len(rows) - len(bad)} of {len(rows)} cells are ok, or say why they cannot be")
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=".venv-clients/bin/python", help="interpreter that has the clients")
    parser.add_argument("--proxy", default=".venv-peers/bin/litellm", help="LiteLLM's proxy")
    parser.add_argument("--out", default="build/bench/clients.json")
    parser.add_argument("--url", help="an endpoint that runs already, such as http://127.0.0.1:8000")
    parser.add_argument("--clients", help=f"some of {','.join(CLIENTS)}")
    parser.add_argument("--without-ray", action="store_true", help="plain uvicorn instead of Ray Serve")
    return parser.parse_args()


@contextlib.contextmanager
def _pool(folder: Path, *, without_ray: bool) -> Iterator[str]:
    """``allsorts up`` on free ports, until it is left; its own log where it fails."""
    port, grpc_port = _free_port(), _free_port()
    log = folder / "up.log"
    command = [
        sys.executable, "-m", "router.cli.main", "up", "--port", str(port), "--grpc-port", str(grpc_port),
        "--state-dir", str(folder / "state"), *(["--without-ray"] if without_ray else []),
    ]  # fmt: skip
    with log.open("wb") as output:
        up = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(up, url, log)
        yield url
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(60)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()


def _wait(up: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        if up.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
            workers = httpx.get(f"{url}/admin/fleet", timeout=2).json()["workers"]
            if sum(worker["state"] == "ready" for worker in workers) >= 2:
                return
        time.sleep(0.5)
    raise SystemExit(f"the pool did not start; the end of its log:\n{log.read_text()[-3000:]}")


def _run(name: str, python: str, proxy: str, url: str, folder: Path) -> list[Row]:
    """All features of one client, in a process of its environment; one that hangs is ended, with what it said."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path.cwd()),
        "HOME": str(folder),
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_API_KEY": "none",
        "DO_NOT_TRACK": "1",
        "LITELLM_PROXY": str(Path(proxy).absolute()),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    out = folder / f"{name}.rows"
    command = [python, "-m", "tests.clients.runner", name, url, str(out)]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            child.wait(CLIENT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # its own session: whatever it started, too
            child.wait()
    rows = read_rows(out)
    if child.returncode != 0 or not rows:
        said = log.read_text(errors="replace")[-2000:]
        rows.append(Row(client=name, feature="(run)", verdict=f"failed: ended with {child.returncode}", detail=said))
    return rows


def _write(out: Path, rows: list[Row]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(out.read_text()) if out.exists() else {}
    now = {row.client for row in rows}
    others = [row for row in kept.get("rows", ()) if row["client"] not in now]
    kept["rows"] = others + [{"client": row.client, "feature": row.feature, "verdict": row.verdict} for row in rows]
    out.write_text(json.dumps(kept, indent=1))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main())
