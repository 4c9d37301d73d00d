"""Coming back after a reboot: a launchd agent on macOS, a systemd user unit on Linux. No root needed."""

import os
import plistlib
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LABEL = "io.allsorts.worker"
UNIT = "allsorts-worker.service"
COMMAND_DEADLINE_S = 20.0

RESTART_AFTER_S = 30
"""A worker that was refused asks again this seldom."""


PROGRAM_BYTES = 2**30
"""Python, buffers and what a runtime takes beside its models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A file for the system's service manager, and the commands that start and stop it."""

    path: Path
    content: bytes
    start: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the owner lets the worker take, where the service manager can hold it to that; 0: no limit."""

    cores: int = 0
    memory_bytes: int = 0  # of its models; the program itself may take PROGRAM_BYTES beside them


def unit(
    command: list[str],
    log_file: Path,
    *,
    limits: Limits = Limits(),
    platform: str = sys.platform,
    home: Path | None = None,
) -> Unit:
    """What makes ``command`` run at every start of this machine. Raises OSError on other systems."""
    home = home or Path.home()
    if platform == "darwin":
        return _launchd(command, log_file, home)
    if platform.startswith("linux"):
        return _systemd(command, limits, home)
    raise OSError(f"--install knows macOS and Linux, not {platform}; start `allsorts join` from your own scripts")


def install(unit: Unit) -> list[str]:
    """Write the file and start it. Returns what the owner must still do, empty when it runs."""
    unit.path.parent.mkdir(parents=True, exist_ok=True)
    unit.path.write_bytes(unit.content)
    unit.path.chmod(0o600)
    return _run(unit.start)


def remove(unit: Unit) -> bool:
    """Stop it and remove the file; False when it was not installed."""
    if not unit.path.exists():
        return False
    _run(unit.stop)
    unit.path.unlink()
    return True


def _launchd(command: list[str], log_file: Path, home: Path) -> Unit:
    path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    domain = f"gui/{os.getuid()}"
    content = {
        "Label": LABEL,
        "ProgramArguments": [*command, "--log-file", str(log_file)],  # which is bounded; launchd's own is not
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_AFTER_S,
        "ProcessType": "Interactive",  # as a background process its GPU work would be throttled
        "ExitTimeOut": 30,
        "StandardOutPath": str(log_file.with_suffix(".start.log")),
        "StandardErrorPath": str(log_file.with_suffix(".start.log")),
    }
    return Unit(
        path=path,
        content=plistlib.dumps(content),
        start=(("launchctl", "bootstrap", domain, str(path)),),
        stop=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
    )


def _systemd(command: list[str], limits: Limits, home: Path) -> Unit:
    base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    lines = (
        "[Unit]",
        "Description=Allsorts worker",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={' '.join(_systemd_word(word) for word in command)}",
        "Restart=on-failure",
        f"RestartSec={RESTART_AFTER_S}",
        "TimeoutStopSec=30",
        "NoNewPrivileges=yes",
        *([f"CPUQuota={100 * limits.cores}%"] if limits.cores else []),
        *([f"MemoryMax={limits.memory_bytes + PROGRAM_BYTES}"] if limits.memory_bytes else []),
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    )
    return Unit(
        path=base / "systemd" / "user" / UNIT,
        content="\n".join(lines).encode(),
        start=(("systemctl", "--user", "daemon-reload"), ("systemctl", "--user", "enable", "--now", UNIT)),
        stop=(("systemctl", "--user", "disable", "--now", UNIT),),
        hint="to have it run before you log in: loginctl enable-linger",
    )


def _systemd_word(word: str) -> str:
    """Quoted for ExecStart: systemd expands ``%`` and ``$`` and understands double quotes (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or not word or any(one.isspace() for one in word) or "'" in word else word


def _run(commands: tuple[tuple[str, ...], ...]) -> list[str]:
    """Run them in turn; what failed, and what follows it, as lines to type."""
    for number, command in enumerate(commands):
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_DEADLINE_S)
            failed = done.returncode != 0
        except (OSError, subprocess.TimeoutExpired):
            failed = True
        if failed:
            return [shlex.join(one) for one in commands[number:]]
    return []
