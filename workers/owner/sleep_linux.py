"""Says on standard output when this Linux machine is about to sleep and when it is awake again: ``sleep``, ``wake``.

A program. logind is asked to wait (a delay lock, five seconds as a rule: InhibitDelayMaxSec of logind.conf(5)) until a
line comes on standard input: what runs here has moved. Ends with its standard input. Its signals are those of
org.freedesktop.login1(5), told by ``gdbus monitor``. **Not verified** on a machine that sleeps.
"""

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

LOGIND = "org.freedesktop.login1"
MONITOR = ("gdbus", "monitor", "--system", "--dest", LOGIND, "--object-path", "/org/freedesktop/login1")
WHY = "moves running requests to other machines"
INHIBIT = ("systemd-inhibit", "--what=sleep", "--mode=delay", "--who=Allsorts", f"--why={WHY}", "cat")
BUS = Path("/run/dbus/system_bus_socket")
MOVED_WITHIN_S = 4.0


def possible(bus: Path = BUS) -> bool:
    """Whether logind can be heard here: no container, for one, has it."""
    return bus.exists() and all(shutil.which(command[0]) for command in (MONITOR, INHIBIT))


class DelayLock:
    """Held while a process waits for input from here; it ends with this program, however that ends."""

    def __init__(self) -> None:
        self._holder: subprocess.Popen[bytes] | None = None

    def take(self) -> None:
        """Anew after each sleep."""
        self.release()
        with contextlib.suppress(OSError):
            self._holder = subprocess.Popen(INHIBIT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def release(self) -> None:
        """The machine may sleep."""
        if self._holder is not None:
            self._holder.communicate()  # closes its input: cat ends, and the lock with it
            self._holder = None


def main() -> int:
    """Until standard input ends, or the monitor does."""
    lock = DelayLock()
    monitor = subprocess.Popen(MONITOR, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert monitor.stdout is not None
    moved: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(moved, monitor, lock), daemon=True).start()
    lock.take()
    for line in monitor.stdout:
        if "PrepareForSleep (true" in line:
            print("sleep", flush=True)  # noqa: T201 - a program
            with contextlib.suppress(queue.Empty):
                moved.get(timeout=MOVED_WITHIN_S)
            lock.release()
        elif "PrepareForSleep (false" in line:
            print("wake", flush=True)  # noqa: T201 - a program
            lock.take()
    lock.release()
    return monitor.wait()


def _listen(moved: "queue.SimpleQueue[str]", monitor: "subprocess.Popen[str]", lock: DelayLock) -> None:
    for line in sys.stdin:
        moved.put(line)
    lock.release()
    monitor.kill()
    monitor.wait()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
