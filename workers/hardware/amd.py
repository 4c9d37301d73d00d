"""AMD GPUs from what the amdgpu driver shows in /sys, and ``amd-smi`` where it is installed. Pure.

Memory is /sys's: bytes, and told by every kernel since 4.20 (Documentation/gpu/amdgpu/driver-misc.rst). Names are
``amd-smi``'s, else the card's own, else those of libdrm's table. A GPU inside a processor has two pools, a part of
the memory that the firmware set aside (VRAM) and what it may take of the rest (GTT); its driver computes in the larger
(amdkfd since Linux 6.10), and ``amd-smi`` does not tell such a GPU from a card, so its name does.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protos.contract.worker import Hardware

VENDOR = "0x1002"
SHARED_VRAM_BYTES = 4 * 2**30
SHARED_TIMES = 8
"""A GPU with so little memory set aside, and so many times that of the host's to take, is inside a processor, whatever
its name: cards have at least as much as that, and GTT is at most the host's memory."""

_HEADING = re.compile(r"^==> (?P<path>\S+/(?P<card>card\d+)/device/(?P<name>\w+)) <==$", re.MULTILINE)
_INSIDE = re.compile(
    r"\b(Strix Halo|Radeon (?:Graphics|[67]\d0M|8[89]0M|80[4-6]0S|Vega \d+ Graphics)|Ryzen)\b", re.IGNORECASE
)
"""Marketing names of GPUs inside processors (libdrm, amdgpu.ids)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One GPU. Zero or empty: not told."""

    name: str
    bus: str = ""
    vram_bytes: int = 0
    vram_used_bytes: int = 0
    gtt_bytes: int = 0
    gtt_used_bytes: int = 0
    compute_units: int = 0
    target: str = ""  # "gfx1151"

    @property
    def unified(self) -> bool:
        """Whether it is inside the processor."""
        little = 0 < self.vram_bytes <= SHARED_VRAM_BYTES
        return bool(_INSIDE.search(self.name)) or (little and self.gtt_bytes >= SHARED_TIMES * self.vram_bytes)

    @property
    def set_aside(self) -> bool:
        """Whether, of a GPU inside the processor, the firmware's part is the larger pool: then it is no host memory."""
        return self.vram_bytes >= self.gtt_bytes


def parse_amd(outputs: Mapping[str, str]) -> tuple[Card, ...]:
    """GPUs by the probes ``amd_sysfs``, ``amd_smi`` and ``amdgpu_ids``, in the order of their PCI addresses."""
    listed = _smi(outputs.get("amd_smi", ""))
    told = {one.get("bdf", ""): one for one in listed}
    names = parse_ids(outputs.get("amdgpu_ids", ""))
    found = [_card(files, told, names) for files in _folders(outputs.get("amd_sysfs", "")).values()]
    cards = [one for one in found if one is not None] or [_by_smi_alone(one) for one in listed]
    return tuple(sorted(cards, key=lambda one: one.bus))


def describe_amd(cards: tuple[Card, ...], host: Hardware, visible: str | None = None) -> Hardware | None:
    """The cards as one machine; None when there are none. ``host``: the machine without them.

    Cards come before a GPU inside the processor, which engines leave alone then. ``visible``: HIP_VISIBLE_DEVICES.
    """
    chosen = tuple(one for one in cards if not one.unified) or cards[:1]
    if visible is not None:
        numbers = [part.strip() for part in visible.split(",")]
        chosen = tuple(chosen[int(one)] for one in numbers if one.isdigit() and int(one) < len(chosen))
    if not chosen:
        return None
    names = Counter(one.name for one in chosen)
    name = names.most_common(1)[0][0]
    first = next(one for one in chosen if one.name == name)
    memory, usable = _memory(chosen, host)
    details = {
        "compute_units": str(first.compute_units or ""),
        "target": first.target,
        "devices": ", ".join(f"{count} x {one}" for one, count in names.items()) if len(names) > 1 else "",
        "devices_memory_bytes": _each_memory(chosen, names) if len(names) > 1 else "",
        "memory": "" if memory else "unknown: the driver does not tell it",
    }
    if first.unified:
        details["memory"] = "unified, set aside by the firmware" if first.set_aside else "unified"
        details["vram_bytes"], details["gtt_bytes"] = str(first.vram_bytes), str(first.gtt_bytes)
    return Hardware(
        kind="amd",
        name=name,
        count=len(chosen),
        memory_bytes=memory,
        usable_memory_bytes=usable,
        cores=first.compute_units,
        interconnect="" if first.unified else "pcie",
        details={key: value for key, value in details.items() if value},
    )


def _memory(cards: tuple[Card, ...], host: Hardware) -> tuple[int, int]:
    """Bytes in all, and that can be taken now."""
    first = cards[0]
    if not first.unified or first.set_aside:
        if not all(one.vram_bytes for one in cards):
            return 0, 0
        return sum(one.vram_bytes for one in cards), sum(max(0, one.vram_bytes - one.vram_used_bytes) for one in cards)
    free = max(0, first.gtt_bytes - first.gtt_used_bytes)
    return first.gtt_bytes, min(free, host.usable_memory_bytes or free)


def parse_ids(text: str) -> dict[tuple[int, int], str]:
    """The table of libdrm: device and revision in hexadecimal, and what such a GPU is sold as."""
    rows = re.findall(r"^([0-9A-Fa-f]{4}),\s*([0-9A-Fa-f]{1,2}),\s*(\S.*?)\s*$", text, re.MULTILINE)
    return {(int(device, 16), int(revision, 16)): name for device, revision, name in rows}


def _folders(text: str) -> dict[str, dict[str, str]]:
    """The files of each card's folder in /sys/class/drm."""
    folders: dict[str, dict[str, str]] = {}
    heads = list(_HEADING.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    for head, end in zip(heads, ends, strict=False):
        folders.setdefault(head["card"], {})[head["name"]] = text[head.end() : end].strip()
    return folders


def _card(
    files: Mapping[str, str], told: Mapping[str, Mapping[str, Any]], names: Mapping[tuple[int, int], str]
) -> Card | None:
    if files.get("vendor") != VENDOR:
        return None
    slot = re.search(r"^PCI_SLOT_NAME=(\S+)$", files.get("uevent", ""), re.MULTILINE)
    bus = slot[1] if slot else ""
    smi = told.get(bus) or (told.get("") if len(told) == 1 else None) or {}
    identity = _number(files.get("device", "")), _number(files.get("revision", ""))
    by_number = f"AMD GPU {files.get('device', '')} revision {files.get('revision', '')}"
    return Card(
        name=str(smi.get("market_name") or files.get("product_name") or names.get(identity) or by_number),
        bus=bus,
        vram_bytes=_number(files.get("mem_info_vram_total", "")),
        vram_used_bytes=_number(files.get("mem_info_vram_used", "")),
        gtt_bytes=_number(files.get("mem_info_gtt_total", "")),
        gtt_used_bytes=_number(files.get("mem_info_gtt_used", "")),
        compute_units=_number(str(smi.get("num_compute_units", ""))),
        target=str(smi.get("target_graphics_version") or ""),
    )


def _by_smi_alone(told: Mapping[str, Any]) -> Card:
    """Where /sys shows no cards: its memory in all, of which nothing tells how much is free."""
    size = told.get("vram_mib", 0)
    return Card(
        name=str(told.get("market_name") or "AMD GPU"),
        bus=str(told.get("bdf", "")),
        vram_bytes=size * 2**20,
        compute_units=_number(str(told.get("num_compute_units", ""))),
        target=str(told.get("target_graphics_version") or ""),
    )


def _smi(text: str) -> list[dict[str, Any]]:
    """What ``amd-smi static --asic --bus --vram --json`` tells of each GPU; in older versions a list without a name."""
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=0)  # warnings may stand before it
    try:
        said = json.loads(text[start:])
    except (ValueError, RecursionError):
        return []
    listed = said.get("gpu_data") if isinstance(said, dict) else said
    found = []
    for one in listed if isinstance(listed, list) else ():
        asic, bus, vram = (_part(one, name) for name in ("asic", "bus", "vram"))
        if asic:
            size = _part(vram, "size").get("value")
            found.append(
                {
                    **asic,
                    "bdf": bus.get("bdf", ""),
                    "vram_mib": size if isinstance(size, int) and 0 < size < 2**32 else 0,
                }
            )
    return found


def _part(said: Any, name: str) -> dict[str, Any]:
    """An object inside, without what is said not to be known; empty where it is none."""
    part = said.get(name) if isinstance(said, dict) else None
    return {key: one for key, one in part.items() if one not in ("", "N/A", None)} if isinstance(part, dict) else {}


def _each_memory(cards: tuple[Card, ...], names: Mapping[str, int]) -> str:
    return ", ".join(str(next(one.vram_bytes for one in cards if one.name == name)) for name in names)


def _number(text: str) -> int:
    text = text.strip()
    try:
        return int(text, 16) if text.startswith("0x") else int(text) if text.isdigit() else 0
    except ValueError:
        return 0
