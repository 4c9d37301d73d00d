"""NVIDIA GPUs from what NVML says. Pure. ``nvidia_smi`` reads the same facts from ``nvidia-smi -q``.

Three kinds of memory are told apart: a card's own; a slice's of a card that is cut by MIG, which counts for itself
alone; and the host's, which chips without any of their own compute in (GB10, Jetson), counted once. What the driver
will not tell stays unknown, with its reason.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from protos.contract.worker import Hardware

CORES_PER_SM = {"7.0": 64, "7.2": 64, "7.5": 64, "8.0": 64}
"""CUDA cores of one multiprocessor by compute capability (CUDA C++ programming guide, arithmetic instructions);
128 from 8.6 on, as on the Maxwell and Pascal cards before."""
NEWER_CORES_PER_SM = 128

_SXM_BOARD = re.compile(r"-2G5(?!30)\d\d-")
"""Board part numbers of SXM modules: 900-2G503 (V100 SXM2), 692-2G506 (A100 SXM4), 692-2G520 (H100), 695-2G520 (H200).
G530 is a Grace Hopper superchip."""
_UNIFIED = re.compile(r"\b(GB10|Orin|Thor|Xavier|Tegra|N1X)\b|nvgpu", re.IGNORECASE)
"""Chips that compute in the host's memory. NVML calls it not supported there (GB10, Orin) or tells a part (N1X)."""
_VIRTUAL = re.compile(r"-(\d{1,3}[ABCQ])$")
"""A vGPU's profile at the end of its name: GRID P40-24Q, NVIDIA A40-8Q."""
MIG = "MIG"
_CARD = re.compile(r"\b(GeForce|Quadro|TITAN|RTX|T4|L4|L40S?|A2|A10G?|A16|A30|A40)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device, as the driver describes it. None, zero or empty: it does not say."""

    name: str
    uuid: str = ""
    memory_bytes: int = 0
    free_bytes: int = 0
    compute_capability: str = ""  # "9.0"
    cuda_cores: int = 0
    board_part_number: str = ""
    bus: str = ""
    pcie_generation: int = 0
    pcie_width: int = 0
    power_limit_w: float = 0.0
    mig: bool = False
    nvlinks: int | None = None
    memory_error: str = ""  # why its memory is not told
    slices: tuple["Gpu", ...] = ()  # of a card that is cut by MIG
    told_multiprocessors: int = 0  # of a slice

    @property
    def form_factor(self) -> str:
        """``sxm``, ``pcie``, ``superchip``, ``mobile``; empty when neither name nor board number tells."""
        words = self.name.upper()
        if "GH200" in words or "GB200" in words or "GB300" in words:
            return "superchip"
        if "SXM" in words or _SXM_BOARD.search(self.board_part_number):
            return "sxm"
        if "LAPTOP" in words or "MAX-Q" in words:
            return "mobile"
        return "pcie" if "PCIE" in words or "NVL" in words or _CARD.search(self.name) else ""

    @property
    def multiprocessors(self) -> int:
        """Streaming multiprocessors; 0 when the cores or the capability are not known."""
        if self.told_multiprocessors or not self.cuda_cores or not self.compute_capability:
            return self.told_multiprocessors
        return self.cuda_cores // CORES_PER_SM.get(self.compute_capability, NEWER_CORES_PER_SM)

    @property
    def unified(self) -> bool:
        """Whether it computes in the host's memory."""
        return bool(_UNIFIED.search(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What the driver says."""

    devices: tuple[Gpu, ...] = ()
    driver: str = ""
    cuda: str = ""
    visible: str | None = None  # CUDA_VISIBLE_DEVICES


def parse_nvml(text: str) -> Gpus:
    """The JSON that ``nvml_probe`` prints; without devices when it is not that."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return Gpus()
    if not isinstance(said, dict):
        return Gpus()
    cuda, visible = _whole(said.get("cuda")), said.get("visible")
    return Gpus(
        devices=tuple(_gpu(one) for one in _named_ones(said.get("devices"))),
        driver=str(said.get("driver") or ""),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
        visible=visible if isinstance(visible, str) else None,
    )


def _named_ones(listed: Any) -> list[dict[str, Any]]:
    return [one for one in listed if isinstance(one, dict) and one.get("name")] if isinstance(listed, list) else []


def _whole(told: Any) -> int:
    """A count; what is none says nothing."""
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < 2**63 else 0


def _gpu(said: dict[str, Any]) -> Gpu:
    capability, power = said.get("compute_capability"), said.get("power_limit_w")
    # a slice is not cut again
    slices = tuple(_gpu({**one, "slices": None}) for one in _named_ones(said.get("slices")))
    return Gpu(
        name=str(said["name"]),
        uuid=str(said.get("uuid") or ""),
        memory_bytes=_whole(said.get("memory_total")),
        free_bytes=_whole(said.get("memory_free")),
        memory_error=str(said.get("memory_error") or ""),
        slices=slices,
        told_multiprocessors=_whole(said.get("multiprocessors")),
        compute_capability=".".join(map(str, capability)) if isinstance(capability, list) else "",
        cuda_cores=_whole(said.get("cuda_cores")),
        board_part_number=str(said.get("board_part_number") or ""),
        bus=str(said.get("bus") or ""),
        pcie_generation=_whole(said.get("pcie_generation")),
        pcie_width=_whole(said.get("pcie_width")),
        power_limit_w=float(power) if isinstance(power, int | float) else 0.0,
        mig=said.get("mig") is True,
        nvlinks=_whole(said["nvlinks"]) if isinstance(said.get("nvlinks"), int) else None,
    )


def visible_devices(gpus: Gpus) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves: by index or by (the start of) a UUID, up to the first that is unknown.

    Indices count in the order of PCI addresses, as with CUDA_DEVICE_ORDER=PCI_BUS_ID. Of a card that is cut by MIG a
    process gets one slice, and nothing beside it (NVIDIA's MIG user guide, "Device enumeration"): the one it names,
    else the first. A slice that the driver would not list is still one: of an unknown size.
    """
    if gpus.visible is None:
        whole = tuple(one for one in gpus.devices if not one.mig)
        return whole or tuple(_slice_of(one) for one in gpus.devices[:1])
    chosen: list[Gpu] = []
    for part in gpus.visible.split(","):
        found = _named(gpus, part.strip())
        if found is None:
            break  # CUDA stops there as well
        if MIG in found.name.split():
            return (found,)
        if found not in chosen:
            chosen.append(found)
    return tuple(chosen)


def _named(gpus: Gpus, part: str) -> Gpu | None:
    if part.startswith("MIG-"):
        return _named_slice(gpus, part)
    if part.isdigit() and int(part) < len(gpus.devices):
        found = gpus.devices[int(part)]
    else:
        matches = [one for one in gpus.devices if part and one.uuid.startswith(part)]
        if len(matches) != 1:
            return None
        found = matches[0]
    return _slice_of(found) if found.mig else found


def _named_slice(gpus: Gpus, part: str) -> Gpu | None:
    """By its UUID, or the older ``MIG-GPU-<card>/<instance>/<instance>``."""
    cut = [one for one in gpus.devices if one.mig]
    listed = [(card, one) for card in cut for one in card.slices]
    exact = next(((card, one) for card, one in listed if one.uuid and one.uuid.startswith(part)), None)
    if exact is not None:
        return _with_card(*exact)
    named = part.removeprefix("MIG-").partition("/")[0]
    cards = [one for one in cut if one.uuid == named] or cut
    sizes = {one.memory_bytes for card in cards for one in card.slices}
    if not cards:
        return None
    first = cards[0]
    if len(sizes) == 1 and first.slices:  # all alike: whichever it is
        return _with_card(first, first.slices[0])
    return _unlisted(first) if len({one.name for one in cards}) == 1 else _unlisted(Gpu(name="NVIDIA"))


def _slice_of(card: Gpu) -> Gpu:
    return _with_card(card, card.slices[0]) if card.slices else _unlisted(card)


def _unlisted(card: Gpu) -> Gpu:
    return _with_card(card, Gpu(name=card.name, memory_error=card.memory_error or "its slices are not listed"))


def _with_card(card: Gpu, part: Gpu) -> Gpu:
    """A slice with what it has of its card; it has no link to others."""
    name = part.name if MIG in part.name.split() else f"{card.name} {MIG}"
    return replace(
        part,
        name=name,
        mig=True,
        compute_capability=part.compute_capability or card.compute_capability,
        bus=card.bus,
        pcie_generation=card.pcie_generation,
        pcie_width=card.pcie_width,
        board_part_number=card.board_part_number,
        nvlinks=None,
    )


def describe(gpus: Gpus, host: Hardware | None = None) -> Hardware | None:
    """The visible GPUs as one machine; None when there are none. Unequal ones: named after most, memory of all.

    ``host``: the machine without them, whose memory is theirs where they have none of their own.
    """
    devices = visible_devices(gpus)
    if not devices:
        return None
    names = Counter(one.name for one in devices)
    name = names.most_common(1)[0][0]
    first = next(one for one in devices if one.name == name)
    links = [one.nvlinks for one in devices]
    details = {
        "form_factor": first.form_factor,
        "driver": gpus.driver,
        "cuda": gpus.cuda,
        "pcie": f"{first.pcie_generation}.0 x{first.pcie_width}" if first.pcie_generation else "",
        "nvlinks": str(min(link or 0 for link in links)) if any(links) else "",
        "power_limit_w": f"{first.power_limit_w:g}" if first.power_limit_w else "",
        "mig": "enabled" if any(one.mig for one in devices) else "",
        "vgpu": found[1] if (found := _VIRTUAL.search(name)) else "",
        "devices": ", ".join(f"{count} x {one}" for one, count in names.items()) if len(names) > 1 else "",
        "devices_memory_bytes": _each_memory(devices, names) if len(names) > 1 else "",
        **_memory_details(devices),
    }
    memory, usable = sum(one.memory_bytes for one in devices), sum(one.free_bytes for one in devices)
    if first.unified:
        memory, usable = (host.memory_bytes, host.usable_memory_bytes) if host is not None else (0, 0)
    elif not all(one.memory_bytes for one in devices):
        memory = usable = 0  # what some tell is not what all have
    return Hardware(
        kind="nvidia",
        name=name,
        count=len(devices),
        memory_bytes=memory,
        usable_memory_bytes=usable,
        cores=first.multiprocessors,
        compute_capability=first.compute_capability,
        interconnect="nvlink" if all(links) else "pcie" if first.pcie_generation or first.bus else "",
        details={key: value for key, value in details.items() if value},
    )


def _each_memory(devices: tuple[Gpu, ...], names: Iterable[str]) -> str:
    """Of one device of each name."""
    return ", ".join(str(next(one.memory_bytes for one in devices if one.name == name)) for name in names)


def _memory_details(devices: tuple[Gpu, ...]) -> dict[str, str]:
    """``memory``: ``unified`` is the host's; what is not known is said to be, and why."""
    if devices[0].unified:
        return {"memory": "unified"}
    silent = next((one for one in devices if not one.memory_bytes), None)
    if silent is None:
        return {}
    return {"memory": f"unknown: {silent.memory_error or 'the driver does not tell it'}"}
