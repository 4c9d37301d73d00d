"""Starting the workers of this machine anew, as they are installed now: streams move first, the membership stays.

Whoever wants it leaves a mark in the fleet's folder and asks the process that serves to leave; it drains, takes the
mark and becomes the new version, in the same process: a service manager or a terminal sees nothing of it.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from workers.joining.membership_files import MembershipFiles
from workers.joining.staying.uninstall import ENDS_WITHIN_S, Say, ask_to_leave

BACK_WITHIN_S = 120.0
POLL_S = 0.1


def restart(
    files: MembershipFiles, say: Say, *, leaves_within_s: float = ENDS_WITHIN_S, back_within_s: float = BACK_WITHIN_S
) -> bool:
    """Have the process that serves under this identity start anew, and wait until it serves again. False: none did.

    Raises OSError when it does not leave, or does not come back.
    """
    mark = _mark(files)
    if files.holder() is None:
        return False
    mark.touch(mode=0o600)
    name = files.folder.name
    try:
        if not ask_to_leave(files, "finishes what runs, moves the rest and starts anew", say):
            return False
        _until(lambda: not mark.exists(), leaves_within_s, f"{name}: it has not left to start anew")
        _until(lambda: files.holder() is not None, back_within_s, f"{name}: it has not come back")
    finally:
        mark.unlink(missing_ok=True)
    say(f"{name}: back")
    return True


def _until(reached: Callable[[], bool], within_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + within_s
    while not reached():  # another process has no event to wait for
        if time.monotonic() > deadline:
            raise OSError(f"{otherwise} within {within_s:.0f} s; look at its log")
        time.sleep(POLL_S)


def take_mark(files: MembershipFiles) -> bool:
    """Whether somebody wants this process, which has drained, to start anew."""
    try:
        _mark(files).unlink()
    except OSError:
        return False
    return True


def become(command: list[str]) -> None:
    """The new version, in this process; its token is not needed any more."""
    os.environ.pop("ALLSORTS_TOKEN", None)
    os.execv(command[0], command)  # noqa: S606 - no shell


def _mark(files: MembershipFiles) -> Path:
    return files.folder / "restart"
