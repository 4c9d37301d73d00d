"""What a machine's probes printed, as a folder of text files: to detect another machine's hardware, or to send in.

``recording.toml`` says where it comes from; beside it stands one ``<probe>.txt`` for every probe that answered.
"""

import re
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from workers.errors import WorkerError
from workers.hardware.probes import PROBES, Reading

VARIABLE = "ALLSORTS_HARDWARE_RECORDING"
ABOUT = "recording.toml"

_SECRETS = re.compile(
    r'("?(?:serial_number|platform_UUID|provisioning_UDID|_spdisplays_display-serial-number|Serial Number|'
    r'GPU UUID|uuid)"?\s*:\s*)("?)[^",\n]+("?)'
)
"""What identifies one machine; it is of no use here."""


class BadRecording(WorkerError):
    """A recording that cannot be read; one line naming the file and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A machine's outputs. ``source`` is where they were published, or how they were made."""

    name: str
    system: str  # as sys.platform: "linux", "darwin"
    source: str
    note: str = ""
    readings: tuple[Reading, ...] = ()


def read_recording(folder: Path) -> Recording:
    """Raises BadRecording."""
    try:
        about = tomllib.loads((folder / ABOUT).read_text(encoding="utf-8"))
        system, source = str(about["system"]), str(about["source"])
    except OSError as error:
        raise BadRecording(f"{VARIABLE}: {folder / ABOUT} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise BadRecording(f"{VARIABLE}: {folder / ABOUT} is no recording: {error}; needed: system, source") from None
    if system not in PROBES:
        raise BadRecording(f"{VARIABLE}: {folder / ABOUT}: system {system!r} is not one of {', '.join(PROBES)}")
    readings = []
    for probe in PROBES[system]:
        file = folder / f"{probe.name}.txt"
        if file.exists():
            readings.append(Reading(name=probe.name, asked=str(file), output=file.read_text("utf-8", "replace")))
    note = str(about.get("note", ""))
    return Recording(name=folder.name, system=system, source=source, note=note, readings=tuple(readings))


def write_recording(folder: Path, readings: tuple[Reading, ...], *, source: str = "") -> None:
    """Write down what this machine said, without serial numbers. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    made = f"recorded on the machine itself, {datetime.now(UTC):%Y-%m-%d}"
    about = {"system": sys.platform, "source": source or made}
    (folder / ABOUT).write_text("".join(f"{key} = {msgspec.json.encode(about[key]).decode()}\n" for key in about))
    for reading in readings:
        if reading.output:
            (folder / f"{reading.name}.txt").write_text(redacted(reading.output), encoding="utf-8")


def redacted(text: str) -> str:
    """The text with serial numbers and the like replaced."""
    return _SECRETS.sub(r"\1\2removed\3", text)
