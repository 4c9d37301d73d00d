"""Faults on demand, while the engine runs: what a control file may say, and reading it.

The file stands beside the profile (``<profile>.control``) or where the option ``control`` points. It is JSON; writing
it anew changes the fault, removing it or writing ``{}`` ends it:

    {"slow": 3}              every step takes three times as long
    {"stall_s": 2.5}         no step for so long, then as before
    {"hang": true}           no step any more; the event loop lives on and load figures show work standing still
    {"crash": "reason"}      the engine dies: its step stream raises EngineFailed
    {"exit": 9}              the whole process ends at once with this status
    {"lie": "idle"}          load figures say that nothing runs
"""

import json
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05
"""How often the file is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong now. The default is nothing."""

    slow: float = 1.0
    stall_s: float = 0.0
    hang: bool = False
    crash: str = ""
    exit: int | None = None
    lie: str = ""


NO_FAULT = Fault()


class FaultError(ValueError):
    """A control file that cannot be understood; the message is one line naming file and field."""


def parse_fault(text: str, source: str) -> Fault:
    """A fault from the file's text. Raises FaultError."""
    try:
        values = json.loads(text or "{}")
    except ValueError as error:
        raise FaultError(f'{source}: not JSON ({error}); write for example {{"slow": 3}}') from None
    if not isinstance(values, dict):
        raise FaultError(f'{source}: wants one JSON object such as {{"slow": 3}}')
    kinds: dict[str, type | tuple[type, ...]] = {
        "slow": (int, float),
        "stall_s": (int, float),
        "hang": bool,
        "crash": str,
        "exit": int,
        "lie": str,
    }
    for name, value in values.items():
        if name not in kinds:
            raise FaultError(f"{source}: there is no fault {name!r}; choose one of {', '.join(kinds)}")
        if not isinstance(value, kinds[name]):
            raise FaultError(f"{source}: {name} cannot be {value!r}")
    fault = Fault(**values)
    if fault.slow <= 0 or fault.stall_s < 0:
        raise FaultError(f"{source}: slow is above zero and stall_s is not negative")
    if fault.lie not in ("", "idle"):
        raise FaultError(f'{source}: lie can be "idle", not {fault.lie!r}')
    return fault


class ControlFile:
    """Tells when the file's text changed. A missing file is no fault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: str | None = None

    def changed(self) -> Fault | None:
        """The new fault, or None while nothing changed. Raises FaultError once per bad text."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError:
            text = ""
        if text == self._seen or (self._seen is None and not text):
            return None
        self._seen = text
        return parse_fault(text, str(self.path))
