"""Another version of this program beside the one that runs, in the place that the pasted line made.

``versions/HASH/env`` for each version and ``bin/allsorts``, a link to the one in use: router/dist/README.md. What the
head hands out is checked by hash: the wheel by the offer's, every package by the lock inside the wheel.
"""

import contextlib
import fcntl
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from workers.errors import WorkerError
from workers.installing.door_client import DoorClient, Offer

LOCK = "locks/base.lock"
"""Where a wheel has it may differ from version to version."""

WHOLE = "whole"
INSTALL_DEADLINE_S = 900.0

Say = Callable[[str], None]


class CannotInstall(WorkerError):
    """One clear line; what ran before runs on."""


class OwnVersions:
    """The versions below ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.command = home / "bin" / "allsorts"

    def place(self, wheel_sha256: str) -> Path:
        """Of a version, whether it is there or not."""
        return self._home / "versions" / wheel_sha256[:16]

    @property
    def in_use(self) -> Path | None:
        """The place of the version that the command leads to; None where it leads nowhere."""
        if not self.command.exists():
            return None
        return self.command.resolve().parents[2]  # PLACE/env/bin/allsorts

    def use(self, place: Path) -> None:
        """From now on the command is that version; replaced as a whole. Raises OSError."""
        self.command.parent.mkdir(exist_ok=True)
        fresh = self.command.with_name(".allsorts.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(place / "env" / "bin" / "allsorts")
        fresh.replace(self.command)

    def keep_only(self, *places: Path) -> None:
        """Remove other versions, whole or not."""
        for one in (self._home / "versions").iterdir():
            if one not in places:
                shutil.rmtree(one, ignore_errors=True)

    def remove(self) -> None:
        """Everything, this very program too where it runs from here: the last thing to do. Raises OSError."""
        for folder in (self._home / "versions", self._home / "bin"):
            shutil.rmtree(folder, ignore_errors=True)
        (self._home / "lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the owner put something there
            self._home.rmdir()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """One installation at a time here, the pasted line's too; a second one is refused. Raises CannotInstall."""
        with (self._home / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotInstall(f"something else is being installed in {self._home}; try again later") from None
            yield

    def install(self, door: DoorClient, offer: Offer, say: Say) -> Path:
        """The head's version; nothing is left of one that could not be. Raises CannotInstall, NotOffered, OSError."""
        place = self.place(offer.wheel_sha256)
        if (place / WHOLE).exists():
            say(f"installed already: {place}")
            return place
        shutil.rmtree(place, ignore_errors=True)
        files = place / "files"
        files.mkdir(parents=True)
        try:
            wheel = door.fetch(f"files/{offer.wheel}", offer.wheel_sha256, files)
            for one in offer.packages:
                door.fetch(f"files/{one.name}", one.sha256, files)
            say(f"fetched {offer.wheel}, as promised by its hash")
            make_environment(place / "env", requirements(wheel, offer, files))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        shutil.rmtree(files)
        (place / WHOLE).write_text(offer.wheel_sha256 + "\n")
        say(f"installed in {place}")
        return place


def requirements(wheel: Path, offer: Offer, files: Path) -> list[str]:
    """What pip (or uv) is told: every package by version and hash; where the head has wheels beside its own, from
    those alone.
    """
    with zipfile.ZipFile(wheel) as archive:
        found = next((one for one in archive.namelist() if one.endswith(LOCK)), None)
        if found is None:
            raise CannotInstall(
                f"{wheel.name} tells no versions of what it needs; paste a new line of the head instead"
            )
        lock = archive.read(found).decode()
    own = f"allsorts @ {wheel.resolve().as_uri()} --hash=sha256:{offer.wheel_sha256}\n"
    (files / "requirements.txt").write_text(lock + own)
    source = ["--no-index", "--find-links", str(files)] if offer.packages else []
    return ["--require-hashes", "-r", str(files / "requirements.txt"), *source]


def make_environment(folder: Path, arguments: list[str]) -> None:
    """A virtual environment for the Python that runs this, by venv and pip, or by uv; their caches are not used.

    Raises CannotInstall.
    """
    base, uv = getattr(sys, "_base_executable", "") or sys.executable, shutil.which("uv")
    python = str(folder / "bin" / "python")
    if uv and subprocess.call([base, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL) != 0:
        _run([uv, "venv", "-q", "--no-cache", "--python", base, str(folder)])
        _run([uv, "pip", "install", "-q", "--no-cache", "--python", python, *arguments])
        return
    _run([base, "-m", "venv", str(folder)])
    _run([python, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install", "-q", *arguments])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{' '.join(command[:4])} took longer than {INSTALL_DEADLINE_S:.0f} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise CannotInstall(f"{' '.join(command[:4])} failed: {' / '.join(said)}")
