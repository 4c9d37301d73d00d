"""A Redis of our own on loopback: stopped, flushed and started again while replicas use it."""

import shutil
import subprocess
from pathlib import Path
from typing import Self

import redis

from router.ray.settings import free_port

ANSWERS_WITHIN_S = 10.0


class RedisServer:
    """The server and where it keeps what it has. Raises RuntimeError where none is installed."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("no redis-server on this machine; install it, e.g. apt-get install redis-server")
        self._folder = folder
        self._port = free_port()
        self._command = [binary, "--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(folder)]
        self._command += ["--appendonly", "yes", "--save", ""]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As ``state_dir``."""
        return f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Until it answers. Where it has not ended, nothing is to do."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with self.client() as client:
            client.ping()

    def stop(self) -> None:
        """SIGTERM; its file stays."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(ANSWERS_WITHIN_S)
            self._process = None

    def flush(self) -> None:
        """All it has, gone."""
        with self.client() as client:
            client.flushall()

    def client(self) -> redis.Redis:
        """Waits while the server starts or reads its file."""
        retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), int(ANSWERS_WITHIN_S / 0.1))
        again = [redis.ConnectionError, redis.BusyLoadingError]
        return redis.Redis.from_url(self.url, socket_timeout=5.0, retry=retry, retry_on_error=again)
