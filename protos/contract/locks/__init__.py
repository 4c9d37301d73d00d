"""The versions and hashes that both sides install from: what a head hands out, and what an engine is built with."""

from pathlib import Path


def read_lock(name: str) -> str:
    """The lock of a role (``base``, ``llama``), as pip's ``--require-hashes`` reads it."""
    return Path(__file__).with_name(f"{name}.lock").read_text(encoding="utf-8")


def without(lock: str, package: str) -> str:
    """A lock less one package."""
    return "".join(one for one in _entries(lock) if not one.startswith(f"{package}=="))


def only(lock: str, package: str) -> str:
    """One package's entry of a lock; empty when it is not in it."""
    return "".join(one for one in _entries(lock) if one.startswith(f"{package}=="))


def _entries(lock: str) -> list[str]:
    """Each a line with a version and the lines of hashes below it."""
    entries: list[str] = []
    for line in lock.splitlines(keepends=True):
        if line[:1].isalnum():
            entries.append(line)
        elif entries:
            entries[-1] += line
    return entries
