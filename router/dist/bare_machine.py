"""Installs the head's version of allsorts on a machine that has nothing but Python, and joins.

The head hands this file out with the hash of its wheel filled in; the line that `allsorts token create` prints fetches
it, compares its hash with the one in the line, and runs it. So the line decides what is run here, not the network.
Standard library alone, and written for Python 3.8: an older Python gets far enough to look for a newer one.

What it makes is below ~/.allsorts (or $ALLSORTS_HOME): versions/HASH/, an environment for each version, and
bin/allsorts, a link to the one in use. A second run finds it there and only joins.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Iterator

WHEEL = "@wheel@"
WHEEL_SHA256 = "@wheel_sha256@"
SERVER_NAME = "@server_name@"
NEEDS = (3, 11)
LOCK = "protos/contract/locks/base.lock"

TIMEOUT_S = 30
INSTALL_DEADLINE_S = 900
BEGAN = time.monotonic()


class CannotInstall(Exception):
    """One clear line."""


def say(line: str) -> None:
    """A step is done."""
    print("· %s (%.0f s)" % (line, time.monotonic() - BEGAN), file=sys.stderr, flush=True)


class Door:
    """The head's install port, over TLS that trusts its CA alone, once the CA's hash is the token's."""

    def __init__(self, address: str, token: str) -> None:
        self.host, _, port = address.rpartition(":")
        self.host = self.host.strip("[]")
        self.port = int(port)
        self.token = token
        self.context = self._pinned()

    def get(self, path: str) -> bytes:
        """One file. Raises CannotInstall, with the head's own reason where it gave one."""
        return self._get(path, self.context, SERVER_NAME, {"authorization": "Bearer " + self.token})

    def _pinned(self) -> ssl.SSLContext:
        """What the CA is may be told by anyone; that it is the right one, its hash in the token says."""
        anyone = ssl.create_default_context()
        anyone.check_hostname = False
        anyone.verify_mode = ssl.CERT_NONE
        shown = self._get("/ca.pem", anyone, None, {}).decode("ascii", "replace")
        try:
            digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).digest()
            part = self.token.split(".")[1]
            expected = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        except (IndexError, ValueError):
            raise CannotInstall("not a join token, or not a head; copy the whole line again") from None
        if not hmac.compare_digest(digest, expected):
            raise CannotInstall(
                "the head there has another CA than the token was made for: a different fleet, or someone in between; "
                "the token was not sent. Make a new line on the head you mean to join"
            )
        return ssl.create_default_context(cadata=shown)

    def _get(self, path: str, context: ssl.SSLContext, name: str | None, headers: dict[str, str]) -> bytes:
        where = "%s:%d" % (self.host, self.port)
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            raw = socket.create_connection((self.host, self.port), TIMEOUT_S)
            connection.sock = context.wrap_socket(raw, server_hostname=name)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except ssl.SSLCertVerificationError as error:
            raise CannotInstall(
                "%s: its certificate is not good here (%s); are both clocks right?" % (where, error.verify_message)
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise CannotInstall("%s: %s" % (where, error)) from None
        finally:
            connection.close()
        if answer.status != 200:
            raise CannotInstall("%s: %s" % (where, body.decode("utf-8", "replace").strip()[:300]))
        return body


def install(door: Door, place: Path) -> None:
    """Wheel, environment, packages, all checked by hash; then the mark that it is whole."""
    offer = json.loads(door.get("/offer.json").decode())
    say("the head at %s:%d is the right one" % (door.host, door.port))
    shutil.rmtree(str(place), ignore_errors=True)
    files = place / "files"
    files.mkdir(parents=True)
    try:
        wheel = fetch(door, files, WHEEL, WHEEL_SHA256)
        shelf = [one for one in offer["packages"] if runs_here(one["name"])]
        for one in shelf:
            fetch(door, files, one["name"], one["sha256"])
        say("fetched %s%s" % (WHEEL, " and %d packages beside it" % len(shelf) if shelf else ""))
        with zipfile.ZipFile(str(wheel)) as archive:
            lock = archive.read(LOCK).decode()
        own = "allsorts @ %s --hash=sha256:%s\n" % (wheel.resolve().as_uri(), WHEEL_SHA256)
        (files / "requirements.txt").write_text(lock + own)
        arguments = ["--require-hashes", "-r", str(files / "requirements.txt")]
        if offer["packages"]:  # the operator gave the head what machines need: nothing else is asked
            arguments += ["--no-index", "--find-links", str(files)]
        make_environment(place / "env", arguments)
    except BaseException:
        shutil.rmtree(str(place), ignore_errors=True)
        raise
    shutil.rmtree(str(files), ignore_errors=True)
    (place / "whole").write_text(WHEEL_SHA256 + "\n")
    say("installed in %s" % place)


def fetch(door: Door, folder: Path, name: str, sha256: str) -> Path:
    """A file of the hash that was promised. Raises CannotInstall."""
    data = door.get("/files/" + name)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise CannotInstall(
            "%s has the hash %s..., not %s... as promised: the head runs another version by now, or someone changed the "
            "file. Nothing was installed; make a new line with `allsorts token create`" % (name, found[:16], sha256[:16])
        )
    (folder / name).write_bytes(data)
    return folder / name


def runs_here(name: str) -> bool:
    """Whether a wheel may be for this system, by the tags in its name; the installer has the last word."""
    python, _, platform = name[: -len(".whl")].split("-")[-3:]
    machine = os.uname().machine
    machines = {machine, {"arm64": "aarch64", "aarch64": "arm64"}.get(machine, machine), "universal2"}
    system = "macosx" if sys.platform == "darwin" else "linux"
    fits = platform == "any" or (system in platform and any(one in platform for one in machines))
    return fits and ("py3" in python or python.startswith("cp3"))


def make_environment(folder: Path, arguments: list[str]) -> None:
    """A virtual environment by venv and pip, or by uv where those are not whole; no cache of theirs stays behind.

    Raises CannotInstall.
    """
    python, uv = interpreter(), shutil.which("uv")
    if python and subprocess.call([python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL) == 0:
        run([python, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
        run([*pip, "install", "-q", *arguments])
    elif uv:
        run([uv, "venv", "-q", "--no-cache", "--python", python or ">=%d.%d" % NEEDS, str(folder)])
        run([uv, "pip", "install", "-q", "--no-cache", "--python", str(folder / "bin" / "python"), *arguments])
    elif python:
        raise CannotInstall("%s has no venv; install it (Debian, Ubuntu: apt-get install python3-venv), or uv" % python)
    else:
        raise CannotInstall(
            "Python %d.%d or newer is needed, here is %d.%d; install one (macOS: brew install python; Debian: apt-get "
            "install python3-venv), or uv, and paste the line again" % (NEEDS + tuple(sys.version_info[:2]))
        )


def interpreter() -> str | None:
    """A Python that is new enough; None when there is none."""
    if sys.version_info >= NEEDS:
        return sys.executable
    path = os.pathsep.join([os.environ.get("PATH", ""), "/opt/homebrew/bin", "/usr/local/bin"])
    found = (shutil.which("python3.%d" % minor, path=path) for minor in range(20, NEEDS[1] - 1, -1))
    check = "import sys; sys.exit(sys.version_info < %r)" % (NEEDS,)
    return next((one for one in found if one and subprocess.call([one, "-c", check], stderr=-3) == 0), None)


def run(command: list[str]) -> None:
    """Raises CannotInstall with what it said last."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall("%s took longer than %d s" % (" ".join(command[:4]), INSTALL_DEADLINE_S)) from None
    if done.returncode == 0:
        return
    said = done.stdout.decode("utf-8", "replace").strip()
    lacking = re.search(r"No matching distribution found for (\S+)|Because (\S+) was not found", said)
    if lacking and "--no-index" in command:
        raise CannotInstall(
            "the wheels beside the head have no %s for this machine (Python %d.%d, %s); on the head: allsorts dist add"
            % (lacking.group(1) or lacking.group(2), *sys.version_info[:2], os.uname().machine)
        )
    raise CannotInstall("%s failed: %s" % (" ".join(command[:4]), " / ".join(said.splitlines()[-3:])))


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """One installation at a time here; a second waits for the first."""
    with (home / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def link(home: Path, place: Path) -> Path:
    """bin/allsorts is the version in use; replaced as a whole."""
    target = place / "env" / "bin" / "allsorts"
    command = home / "bin" / "allsorts"
    if os.path.realpath(str(command)) == os.path.realpath(str(target)):
        return command
    command.parent.mkdir(exist_ok=True)
    fresh = command.with_name(".allsorts.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target)
    fresh.replace(command)
    return command


def main(door: str, arguments: list[str]) -> int:
    """``HOST:PORT TOKEN [what `allsorts join` takes]``; becomes the join, and returns only when that cannot be."""
    sys.excepthook = sys.__excepthook__
    enrol, token, rest = arguments[0], arguments[1], arguments[2:]
    home = Path(os.path.expanduser(os.environ.get("ALLSORTS_HOME") or "~/.allsorts"))
    place = home / "versions" / WHEEL_SHA256[:16]
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(home):
            if (place / "whole").exists():
                say("installed already: %s" % place)
            else:
                install(Door(door, token), place)
            command = link(home, place)
    except (CannotInstall, OSError) as error:
        print("allsorts: %s" % error, file=sys.stderr)
        return 1
    say("from now on the command is %s" % command)
    os.environ["ALLSORTS_TOKEN"] = token  # not among the arguments, which every user of the machine can list
    os.execv(str(command), [str(command), "join", enrol, *rest])


if "door" in globals():
    sys.exit(main(globals()["door"], sys.argv[1:]))
