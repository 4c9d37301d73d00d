"""A Mac from what ``sysctl``, ``system_profiler``, ``pmset`` and Metal say. Pure.

``pmset -g`` tells low-power mode as ``lowpowermode 0|1``, and on MacBooks with a high-power mode, and since macOS 15,
as ``powermode 0|1|2`` (automatic, low, high). Both were seen together; ``powermode`` then counts.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from protos.contract.worker import Hardware

MIB = 2**20
GIB = 2**30
POWER_MODES = {"0": "automatic", "1": "low", "2": "high"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """What ``system_profiler SPHardwareDataType SPDisplaysDataType -json`` says. Zero or empty: nothing."""

    chip: str = ""
    model: str = ""
    memory_bytes: int = 0
    gpu: str = ""
    gpu_cores: int = 0
    metal_family: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metal:
    """What Metal's default device says; ``working_set_bytes`` is what its GPU may hold at once."""

    name: str = ""
    working_set_bytes: int = 0
    unified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """Everything understood of the probes' outputs, before it is judged."""

    sysctl: Mapping[str, str] = field(default_factory=dict)
    profiler: Profiler = Profiler()
    metal: Metal = Metal()
    on_battery: bool | None = None  # None: pmset did not say
    power_mode: str = ""

    @property
    def chip(self) -> str:
        """``Apple M4 Max``; an Intel Mac's processor."""
        return self.profiler.chip or self.sysctl.get("machdep.cpu.brand_string", "")

    @property
    def apple_silicon(self) -> bool:
        """Whether GPU and processor share their memory."""
        return self.sysctl.get("hw.optional.arm64") == "1" or self.chip.startswith("Apple")

    @property
    def memory_bytes(self) -> int:
        """Unified memory."""
        return _number(self.sysctl.get("hw.memsize", "")) or self.profiler.memory_bytes

    @property
    def working_set_bytes(self) -> int:
        """What the GPU may take: as Metal says (it follows a changed limit), else the limit that was set; else 0."""
        return self.metal.working_set_bytes or _number(self.sysctl.get("iogpu.wired_limit_mb", "")) * MIB


def read_mac(outputs: Mapping[str, str]) -> Mac:
    """From the probes ``sysctl``, ``system_profiler``, ``metal``, ``pmset_batt`` and ``pmset``."""
    return Mac(
        sysctl=parse_sysctl(outputs.get("sysctl", "")),
        profiler=parse_profiler(outputs.get("system_profiler", "")),
        metal=parse_metal(outputs.get("metal", "")),
        on_battery=parse_power_source(outputs.get("pmset_batt", "")),
        power_mode=parse_power_mode(outputs.get("pmset", "")),
    )


def parse_mac(outputs: Mapping[str, str], *, gpu: bool = True) -> Hardware:
    """The machine as its GPU is used; an Intel Mac, or without ``gpu``, as a CPU. What nobody said stays empty."""
    mac = read_mac(outputs)
    details = {
        "model": mac.profiler.model or mac.sysctl.get("hw.model", ""),
        "cpu_cores": _cpu_cores(mac.sysctl),
        "macos": mac.sysctl.get("kern.osproductversion", ""),
        "power_mode": mac.power_mode,
    }
    if not (mac.apple_silicon and gpu):
        return Hardware(
            kind="cpu",
            name=mac.chip,
            memory_bytes=mac.memory_bytes,
            usable_memory_bytes=mac.memory_bytes,
            cores=_number(mac.sysctl.get("hw.ncpu", "")),
            on_battery=bool(mac.on_battery),
            low_power=mac.power_mode == "low",
            details={key: value for key, value in details.items() if value},
        )
    limit = _number(mac.sysctl.get("iogpu.wired_limit_mb", ""))
    details |= {
        "gpu_cores": str(mac.profiler.gpu_cores or ""),
        "metal": mac.profiler.metal_family,
        "working_set_by": "metal" if mac.metal.working_set_bytes else "iogpu.wired_limit_mb" if limit else "",
        "wired_limit_mb": str(limit or ""),
    }
    return Hardware(
        kind="apple",
        name=mac.chip,
        memory_bytes=mac.memory_bytes,
        usable_memory_bytes=mac.working_set_bytes,
        cores=mac.profiler.gpu_cores,
        on_battery=bool(mac.on_battery),
        low_power=mac.power_mode == "low",
        details={key: value for key, value in details.items() if value},
    )


def parse_sysctl(text: str) -> dict[str, str]:
    """``name: value`` lines."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, separator, value in pairs if separator}


def parse_profiler(text: str) -> Profiler:
    """The overview and the GPU that is Apple's, or the first. Empty when it is not that JSON."""
    document = _json(text)
    overview = _first(document.get("SPHardwareDataType"))
    displays = document.get("SPDisplaysDataType")
    gpus = [one for one in displays if isinstance(one, dict)] if isinstance(displays, list) else []
    ours = [one for one in gpus if one.get("spdisplays_vendor") == "sppci_vendor_Apple"]
    gpu = _first(ours or gpus)
    memory = re.match(r"(\d+) (MB|GB|TB)", str(overview.get("physical_memory", "")))
    unit = {"MB": MIB, "GB": GIB, "TB": 1024 * GIB}
    family = str(gpu.get("spdisplays_mtlgpufamilysupport", "") or gpu.get("spdisplays_metal", ""))
    return Profiler(
        chip=str(overview.get("chip_type", "") or overview.get("cpu_type", "")),
        model=str(overview.get("machine_model", "")),
        memory_bytes=int(memory[1]) * unit[memory[2]] if memory else 0,
        gpu=str(gpu.get("sppci_model", "")),
        gpu_cores=_number(str(gpu.get("sppci_cores", ""))),
        metal_family=family.removeprefix("spdisplays_"),
    )


def parse_metal(text: str) -> Metal:
    """The JSON that ``metal_probe`` prints."""
    said = _json(text)
    size = said.get("recommendedMaxWorkingSetSize")
    return Metal(
        name=str(said.get("name", "")),
        working_set_bytes=size if isinstance(size, int) else 0,
        unified=said.get("hasUnifiedMemory") is True,
    )


def parse_power_source(text: str) -> bool | None:
    """Whether ``pmset -g batt`` says it runs on battery; None when it says neither."""
    found = re.search(r"Now drawing from '(.+?)'", text)
    if found is None:
        return None
    return found[1] == "Battery Power"


def parse_power_mode(text: str) -> str:
    """``automatic``, ``low`` or ``high`` by ``pmset -g``; empty when it does not say."""
    modes = dict(re.findall(r"^\s*(powermode|lowpowermode)\s+(\d)\s*$", text, re.MULTILINE))
    mode = str(modes.get("powermode") or modes.get("lowpowermode") or "")
    return POWER_MODES.get(mode, "")


def _cpu_cores(sysctl: Mapping[str, str]) -> str:
    """``10 (4 Performance, 6 Efficiency)``: the levels as this macOS names them."""
    total = sysctl.get("hw.physicalcpu", "") or sysctl.get("hw.ncpu", "")
    levels = []
    for level in range(_number(sysctl.get("hw.nperflevels", "")) or 2):
        count = sysctl.get(f"hw.perflevel{level}.physicalcpu", "")
        name = sysctl.get(f"hw.perflevel{level}.name", "") or ("Performance", "Efficiency")[min(level, 1)]
        if count:
            levels.append(f"{count} {name}")
    return f"{total} ({', '.join(levels)})" if levels and total else total


def _json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _first(entries: Any) -> dict[str, Any]:
    return entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdigit() else 0
