"""What the fleet table of ``allsorts up`` tells of its workers' speed, against what a lone stream then gets.

Both workers join at the same time on one machine, with nothing measured before. The stream's prompt and answer hold
STREAM_CONTEXT_TOKENS on average, which is what the table's figure is for.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from loadtest.pools.ports import free_port
from protos.contract.worker import STREAM_CONTEXT_TOKENS
from workers.benchmark.probe import TOKENS_PER_WORD, WORDS
from workers.owner.looking import OthersBusy

OUTPUT_TOKENS = 192
STREAMS = 9
READY_WITHIN_S, STOP_WITHIN_S, STREAM_WITHIN_S = 300.0, 60.0, 120.0


def measure(options: argparse.Namespace) -> Mapping[str, object]:
    """The table; ``up_speed_error``: of the worker that the table is furthest off for, as a share of its true speed;
    ``up_speed_others_cpus``: processors that other programs kept busy meanwhile, the most of all spells.
    """
    errors: list[float] = []
    with TemporaryDirectory() as folder, _pool(Path(folder), ray=not options.without_ray) as (endpoint, ours, busy):
        others = [busy.cpus(ours) or 0.0]
        told = {
            (one["node"], model["model"], model["quantization"]): float(model["speed"]["decode_tokens_per_s"])
            for one in _asked(f"{endpoint}/admin/fleet")["workers"]
            for model in one["models"]
        }
        print(f"while they joined, other programs kept {others[0]:.2f} processors busy")
        print(f"{'worker':<16}{'told':>9}{'a lone stream':>16}{'error':>9}{'others':>9}   streams")
        for (node, model, quantization), rate in told.items():
            rates = [_rate(endpoint, f"{model}@{quantization}", number) for number in range(STREAMS + 1)][1:]
            others.append(busy.cpus(ours) or 0.0)
            true = median(rates)
            errors.append(abs(rate - true) / true)
            each = " ".join(f"{one:.0f}" for one in rates)
            off = f"{100 * (rate - true) / true:+.1f}%"
            print(f"{node:<16}{rate:>9.1f}{true:>16.1f}{off:>9}{others[-1]:>9.2f}   {each}")
    return {"up_speed_error": max(errors), "up_speed_others_cpus": max(others)}


def _rate(endpoint: str, model: str, number: int) -> float:
    """Tokens a second of one stream, from its first token to its last. Its prompt is like no other, and the answer is
    drawn: text that repeats itself would be proposed and verified, and say nothing of a plain stream.
    """
    prompt_tokens = STREAM_CONTEXT_TOKENS - OUTPUT_TOKENS // 2
    words = f"{number} " + " ".join(random.Random(number).choices(WORDS, k=int(prompt_tokens / TOKENS_PER_WORD)))
    body = {
        "model": model, "prompt": f"{words} Once upon a time", "max_tokens": OUTPUT_TOKENS, "temperature": 1,
        "seed": number, "ignore_eos": True,
        "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    request = urllib.request.Request(
        f"{endpoint}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    first = last = 0.0
    usage: dict[str, Any] = {}
    with urllib.request.urlopen(request, timeout=STREAM_WITHIN_S) as reply:
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if any(choice.get("text") for choice in event.get("choices", ())):
                last = time.monotonic()
                first = first or last
    tokens = int(usage.get("completion_tokens", 0))
    if tokens < OUTPUT_TOKENS // 4:
        sys.exit(f"{model} wrote {tokens} tokens only: too few to tell its speed")
    return (tokens - 1) / (last - first)


@contextlib.contextmanager
def _pool(folder: Path, *, ray: bool) -> Iterator[tuple[str, tuple[int, ...], OthersBusy]]:
    """``allsorts up`` with a cache of its own, so that both workers are measured: its endpoint, the processes that are
    its and ours, and who else computes from its start on.
    """
    port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "router.cli.main", "up", "--port", str(port), "--grpc-port", str(grpc_port)]
    command += ["--state-dir", str(folder / "pool"), *([] if ray else ["--without-ray"])]
    environment = {**os.environ, "ALLSORTS_WORKER_CACHE_DIR": str(folder / "cache")}
    log = folder / "up.log"
    busy = OthersBusy()
    busy.cpus((os.getpid(),))
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while "Ctrl-C stops everything" not in log.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"`allsorts up` is not ready:\n{log.read_text()}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", (os.getpid(), process.pid), busy
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _asked(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as reply:
        said = json.loads(reply.read())
    return dict(said)
