"""Ending the workers that serve under a joined identity, whoever started them: ``allsorts leave``.

The kernel says who holds a fleet folder's lock, so that no note of a process id can be out of date.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from workers.joining.membership_files import MembershipFiles

ENDS_WITHIN_S = 60.0
"""Longer than a worker lets running requests finish (20 s) and its engine close."""

POLL_S = 0.1

Say = Callable[[str], None]


def joined_fleets(state_dir: Path) -> list[MembershipFiles]:
    """Every fleet this machine joined, under every name."""
    return [MembershipFiles(folder) for folder in sorted((state_dir / "pools").glob("*")) if folder.is_dir()]


def workers_alone(state_dir: Path) -> int:
    """How many workers that joined nothing (``allsorts worker``) hold their name in this folder."""
    return sum(_held(file) for file in (state_dir / "workers").glob("*.json"))


def _held(file: Path) -> bool:
    with file.open("rb") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def ask_to_leave(files: MembershipFiles, does: str, say: Say) -> int:
    """Ask the process that serves under this identity to drain and leave; its number, 0 when none does. Raises OSError
    when it cannot be asked.
    """
    process_id = files.holder()
    if process_id is None:
        return 0
    name = files.folder.name
    if process_id <= 0:
        raise OSError(f"{name}: a process in another container serves under this name; stop that container")
    say(f"{name}: process {process_id} {does}")
    os.kill(process_id, signal.SIGTERM)
    return process_id


def stop_running(files: MembershipFiles, *, say: Say = lambda _: None, within_s: float = ENDS_WITHIN_S) -> bool:
    """Ask the process that serves under this identity to leave, and wait until it has: it drains and says goodbye.

    False: nothing ran. Raises OSError when it cannot be asked, or does not end in time.
    """
    process_id = ask_to_leave(files, "finishes what runs and leaves", say)
    if not process_id:
        return False
    name = files.folder.name
    deadline = time.monotonic() + within_s
    while files.holder() == process_id:  # another process has no event to wait for
        if time.monotonic() > deadline:
            raise OSError(
                f"{name}: process {process_id} has not left within {within_s:.0f} s; its keys stay. "
                f"End it with: kill -KILL {process_id}"
            )
        time.sleep(POLL_S)
    return True
