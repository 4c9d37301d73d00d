"""The wheel of what runs here, put together from its own files: whoever installs it has exactly the head's version.

The same files give the same bytes on every machine: members are sorted, dated 1980 and stored uncompressed, since
compression differs between versions of zlib.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from router.dist.own_metadata import PROJECT, own_metadata

PACKAGES = ("loadtest", "protos", "router", "workers")
CARRIED = (".py", ".pyi", ".typed", ".proto", ".html", ".json", ".toml", ".sh", ".cmake", ".cpp", ".lock")
"""As ``package-data`` in pyproject.toml has it."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel's file name and bytes."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Hex, as installers compare it."""
        return hashlib.sha256(self.data).hexdigest()


@cache
def own_wheel() -> Wheel:
    """Of the code that runs in this process. Blocks for a fraction of a second; made once. Raises ConfigError."""
    root = Path(__file__).parents[2]
    version, about = own_metadata(root)
    return pack(root, version, about)


def pack(root: Path, version: str, about: dict[str, str]) -> Wheel:
    """``PACKAGES`` below ``root`` as a wheel; ``about``: the files of its ``dist-info``, RECORD excepted."""
    info = f"{PROJECT}-{version}.dist-info"
    members = dict(_files(root))
    members |= {f"{info}/{name}": text.encode() for name, text in about.items()}
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in sorted(members.items())]
    members[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            member = zipfile.ZipInfo(name)  # dated 1980-01-01, as the format's default
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return Wheel(f"{PROJECT}-{version}-py3-none-any.whl", output.getvalue())


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            if path.suffix in CARRIED and path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
