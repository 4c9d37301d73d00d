"""Child processes that do not outlive their parent: started in their own session, ended by name, never leaked."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """On Linux, ask for SIGTERM when the parent goes, however it goes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One child process and its log file."""

    def __init__(
        self, name: str, arguments: list[str], *, log: Path, environment: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its children in order
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - single-threaded here
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """A signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def wait(self, deadline_s: float) -> None:
        """Wait for the end; past the deadline the whole session is killed."""
        try:
            self._process.wait(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=5)

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def stop_all(children: list[Child], deadline_s: float = 15.0) -> None:
    """Ask all to stop, last started first, and wait for each."""
    for child in reversed(children):
        child.ask_to_stop()
    end = time.monotonic() + deadline_s
    for child in reversed(children):
        child.wait(max(0.5, end - time.monotonic()))
