"""What is asked of the system, and asking it: commands with deadlines, and files. Nothing is interpreted here."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from workers.hardware.cgroup import cgroup_files

COMMAND_DEADLINE_S = 10.0
PROFILER_DEADLINE_S = 30.0
"""``system_profiler`` takes a second, but many on a Mac that has just woken up."""

MAX_OUTPUT_BYTES = 4 * 2**20
"""What is read of one answer; /proc/cpuinfo of 512 processors has 800 kB."""

SYSCTLS = (
    "hw.memsize",
    "hw.model",
    "hw.ncpu",
    "hw.physicalcpu",
    "hw.optional.arm64",
    "hw.nperflevels",
    "hw.perflevel0.name",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.name",
    "hw.perflevel1.physicalcpu",
    "machdep.cpu.brand_string",
    "iogpu.wired_limit_mb",
    "kern.osproductversion",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one probe said; ``error`` is one line, empty when it answered."""

    name: str
    asked: str  # the command line or the file
    output: str = ""
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question. A ``command``, or ``files`` shown one after the other as ``tail -n +1`` does (one: as it is)."""

    name: str
    command: tuple[str, ...] = ()
    files: Callable[[], Iterable[str]] = tuple
    deadline_s: float = COMMAND_DEADLINE_S
    only_with: tuple[str, ...] = ()  # asked only where one of these paths or programs exists; empty: always
    instead_of: str = ""  # asked only when that probe failed


def _module(name: str) -> tuple[str, ...]:
    return sys.executable, "-m", f"workers.hardware.{name}"


NVIDIA_SIGNS = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg", "nvidia-smi")
"""Of a driver, on Linux and in WSL: without one, NVML is not asked."""

AMD_SIGNS = ("/dev/kfd", "/sys/module/amdgpu", "amd-smi")
AMD_FILES = (
    "vendor", "device", "revision", "product_name", "uevent", "mem_info_vram_total", "mem_info_vram_used",
    "mem_info_gtt_total", "mem_info_gtt_used",
)  # fmt: skip
"""Of a card's folder in /sys/class/drm."""


def _amd_files() -> list[str]:
    cards = sorted(Path("/sys/class/drm").glob("card[0-9]*/device"))
    return [f"{card}/{name}" for card in cards if card.parent.name[4:].isdigit() for name in AMD_FILES]


LINUX = (
    Probe(name="cpuinfo", files=lambda: ("/proc/cpuinfo",)),
    Probe(name="meminfo", files=lambda: ("/proc/meminfo",)),
    Probe(name="status", files=lambda: ("/proc/self/status",)),
    Probe(name="cgroup", files=lambda: cgroup_files(_text("/proc/self/cgroup"))),
    Probe(name="nvml", command=_module("nvml_probe"), only_with=NVIDIA_SIGNS),
    Probe(name="nvidia_smi", command=("nvidia-smi", "-q"), only_with=("nvidia-smi",), instead_of="nvml"),
    Probe(name="amd_sysfs", files=_amd_files, only_with=AMD_SIGNS),
    Probe(name="amd_smi", command=("amd-smi", "static", "--asic", "--bus", "--vram", "--json"), only_with=("amd-smi",)),
    Probe(name="amdgpu_ids", files=lambda: ("/usr/share/libdrm/amdgpu.ids",), only_with=AMD_SIGNS),
)
DARWIN = (
    Probe(name="sysctl", command=("sysctl", "-i", *SYSCTLS)),
    Probe(
        name="system_profiler",
        command=("system_profiler", "SPHardwareDataType", "SPDisplaysDataType", "-json"),
        deadline_s=PROFILER_DEADLINE_S,
    ),
    Probe(name="metal", command=_module("metal_probe")),
    Probe(name="pmset_batt", command=("pmset", "-g", "batt")),
    Probe(name="pmset", command=("pmset", "-g")),
)
PROBES = {"linux": LINUX, "darwin": DARWIN}
"""By ``sys.platform``; on others only what every system tells is known."""


def ask(probe: Probe) -> Reading | None:
    """One probe's answer; None when it does not apply to this machine. Never raises."""
    if probe.only_with and not any(shutil.which(one) or Path(one).exists() for one in probe.only_with):
        return None
    started = time.monotonic()
    if probe.command:
        output, error = _run(probe.command, probe.deadline_s)
        asked = " ".join(("python" if part == sys.executable else part) for part in probe.command)
    else:
        paths = tuple(probe.files())
        output, error = _read(paths)
        asked = " ".join(paths)
    return Reading(name=probe.name, asked=asked, output=output, error=error, seconds=time.monotonic() - started)


def ask_all(platform: str = sys.platform, *, every: bool = False) -> tuple[Reading, ...]:
    """Every probe of this system that applies; ``every``: also those that stand in for one that answered."""
    readings: dict[str, Reading] = {}
    for probe in PROBES.get(platform, ()):
        other = readings.get(probe.instead_of)
        if other is not None and not other.error and not every:
            continue
        if (answer := ask(probe)) is not None:
            readings[probe.name] = answer
    return tuple(readings.values())


def _run(command: tuple[str, ...], deadline_s: float) -> tuple[str, str]:
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {deadline_s:g} s"
    except OSError as error:
        return "", f"cannot be run ({error.strerror})"
    output = done.stdout[:MAX_OUTPUT_BYTES].decode("utf-8", "replace")
    if done.returncode == 0:
        return output, ""
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return output, said[-1] if said else f"ended with status {done.returncode}"


def _read(paths: tuple[str, ...]) -> tuple[str, str]:
    texts = [(path, _text(path)) for path in paths]
    there = [(path, text) for path, text in texts if text]
    if not there:
        return "", "no such file"
    if len(paths) == 1:
        return there[0][1], ""
    return "\n".join(f"==> {path} <==\n{text}" for path, text in there), ""


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_OUTPUT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
