"""llama.cpp's own server, as xllamacpp packages it, in a process of its own on a free port: one we did not write.

Run as a program it serves until its stdin closes, so that it cannot outlive what started it.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def serve(model: str, context_tokens: int, slots: int) -> None:
    """Serve until stdin closes; prints the address it listens on."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = context_tokens * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 4
    params.warmup = False
    server = xllamacpp.Server(params)
    print(f"listening {server.listening_address}", flush=True)
    sys.stdin.read()


@contextlib.contextmanager
def running(model: Path, *, context_tokens: int = 1024, slots: int = 4) -> Iterator[str]:
    """The base URL of a server that runs for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(model), str(context_tokens), str(slots)],
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
                yield line.split()[1].rstrip("/") + "/v1"
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
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
