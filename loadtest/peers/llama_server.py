"""llama.cpp's own server, as xllamacpp packages it, in a process of its own on a free port: one we did not write.

Run as a program it serves until its stdin closes, so that it cannot outlive what started it.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def serve(model: str, context_tokens: int, slots: int, port: int, unified: int = 0) -> None:
    """Serve until stdin closes; prints the address it listens on. ``port`` 0: any; ``unified``: one KV cache for all
    slots, where 1.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = context_tokens * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 4
    params.kv_unified = bool(unified)
    params.warmup = False
    server = xllamacpp.Server(params)
    print(f"listening {server.listening_address}", flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def running(model: Path, *, context_tokens: int = 1024, slots: int = 4, port: int = 0) -> Iterator[str]:
    """The base URL of a server that runs for the length of the block."""
    with server_process(model, context_tokens=context_tokens, slots=slots, port=port) as (_, url):
        yield url


@contextlib.contextmanager
def server_process(
    model: Path, *, context_tokens: int = 1024, slots: int = 4, port: int = 0, unified: bool = False
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The server's process as well, for who wants to end it sooner."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(model), str(context_tokens), str(slots), str(port), str(int(unified))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("listening "):
                yield process, line.split()[1].rstrip("/") + "/v1"
                return
        raise RuntimeError(f"the server ended with status {process.wait(10)}")
    finally:
        process.stdin.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


if __name__ == "__main__":
    serve(sys.argv[1], *(int(one) for one in sys.argv[2:6]))
