"""NVIDIA GPUs from what NVML says. Pure. ``nvidia_smi`` reads the same facts from ``nvidia-smi -q``."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protos.contract.worker import Hardware

CORES_PER_SM = {"7.0": 64, "7.2": 64, "7.5": 64, "8.0": 64}
"""CUDA cores of one multiprocessor by compute capability (CUDA C++ programming guide, arithmetic instructions);
128 from 8.6 on, as on the Maxwell and Pascal cards before."""
NEWER_CORES_PER_SM = 128

_SXM_BOARD = re.compile(r"-2G5(?!30)\d\d-")
"""Board part numbers of SXM modules: 900-2G503 (V100 SXM2), 692-2G506 (A100 SXM4), 692-2G520 (H100), 695-2G520 (H200).
G530 is a Grace Hopper superchip."""
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
        if not self.cuda_cores or not self.compute_capability:
            return 0
        return self.cuda_cores // CORES_PER_SM.get(self.compute_capability, NEWER_CORES_PER_SM)


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
    cuda = said.get("cuda") or 0
    return Gpus(
        devices=tuple(_gpu(one) for one in said.get("devices") or () if isinstance(one, dict) and one.get("name")),
        driver=str(said.get("driver") or ""),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if isinstance(cuda, int) and cuda else "",
        visible=said.get("visible"),
    )


def _gpu(said: dict[str, Any]) -> Gpu:
    capability = said.get("compute_capability")
    return Gpu(
        name=str(said["name"]),
        uuid=str(said.get("uuid") or ""),
        memory_bytes=int(said.get("memory_total") or 0),
        free_bytes=int(said.get("memory_free") or 0),
        compute_capability=".".join(str(part) for part in capability) if capability else "",
        cuda_cores=int(said.get("cuda_cores") or 0),
        board_part_number=str(said.get("board_part_number") or ""),
        bus=str(said.get("bus") or ""),
        pcie_generation=int(said.get("pcie_generation") or 0),
        pcie_width=int(said.get("pcie_width") or 0),
        power_limit_w=float(said.get("power_limit_w") or 0.0),
        mig=said.get("mig") is True,
        nvlinks=said.get("nvlinks"),
    )


def visible_devices(gpus: Gpus) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves: by index or by (the start of) a UUID, up to the first that is unknown.

    Indices count in the order of PCI addresses, as with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    if gpus.visible is None:
        return gpus.devices
    chosen: list[Gpu] = []
    for part in gpus.visible.split(","):
        part = part.strip()
        if part.isdigit() and int(part) < len(gpus.devices):
            found = gpus.devices[int(part)]
        else:
            matches = [one for one in gpus.devices if part and one.uuid.startswith(part)]
            if len(matches) != 1:
                break  # CUDA stops there as well
            found = matches[0]
        if found not in chosen:
            chosen.append(found)
    return tuple(chosen)


def describe(gpus: Gpus) -> Hardware | None:
    """The visible GPUs as one machine; None when there are none. Unequal ones: named after most, memory of all."""
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
        "devices": _list(names) if len(names) > 1 else "",
    }
    return Hardware(
        kind="nvidia",
        name=name,
        count=len(devices),
        memory_bytes=sum(one.memory_bytes for one in devices),
        usable_memory_bytes=sum(one.free_bytes for one in devices),
        cores=first.multiprocessors,
        compute_capability=first.compute_capability,
        interconnect="nvlink" if all(links) else "pcie" if first.pcie_generation or first.bus else "",
        details={key: value for key, value in details.items() if value},
    )


def _list(names: Sequence[str] | Counter[str]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in Counter(names).items())
