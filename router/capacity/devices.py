"""A machine's accelerators as the catalogue knows them, alike or not. Pure.

Unlike cards in one box (``devices`` in its details) share a model in two ways: layers in proportion to memory, taking
turns, so that each is as slow as it is for its share; or every layer on all, as fast as the slowest.
"""

import re
from dataclasses import dataclass, replace

from protos.contract.worker import Hardware
from router.capacity.chips import Chip, find_chip

_SOME = re.compile(r"(\d+) x (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Accelerators of one name. ``chip`` None: not in the catalogue."""

    chip: Chip | None
    count: int
    memory_bytes: float  # of each


def devices_of(hardware: Hardware) -> tuple[Devices, ...]:
    """All kinds of the machine's accelerators, by what it reports of each; of one kind, that one."""
    told = [one.strip() for one in hardware.details.get("devices", "").split(",") if one.strip()]
    sizes = [one.strip() for one in hardware.details.get("devices_memory_bytes", "").split(",")]
    found = []
    for entry, size in zip(told, sizes, strict=False):
        parsed = _SOME.fullmatch(entry)
        if parsed is None or not size.isdigit():
            return _alike(hardware)
        memory = float(size)
        found.append(Devices(chip=find_chip(parsed[2], memory_bytes=memory), count=int(parsed[1]), memory_bytes=memory))
    counted = sum(one.count for one in found)
    return tuple(found) if counted == hardware.count and len(found) > 1 else _alike(hardware)


def chip_of(hardware: Hardware) -> Chip | None:
    """The catalogue's entry for the machine's accelerators; of unlike ones, one as fast as they are in turn, each for
    its share of the memory. None: one of them is unknown.
    """
    kinds = devices_of(hardware)
    chips = [one.chip for one in kinds]
    if len(kinds) == 1 or any(chip is None for chip in chips):
        return chips[0] if len(kinds) == 1 else None
    memory = sum(one.count * one.memory_bytes for one in kinds)
    shares = [one.count * one.memory_bytes / memory if memory else 1 / len(kinds) for one in kinds]
    pairs = [(share, chip) for share, chip in zip(shares, chips, strict=True) if chip is not None]
    slowest = min((chip for _, chip in pairs), key=lambda chip: chip.bandwidth_bytes_per_s)
    return replace(
        slowest,
        bandwidth_bytes_per_s=1.0 / sum(share / chip.bandwidth_bytes_per_s for share, chip in pairs),
        compute_flops=1.0 / sum(share / chip.compute_flops for share, chip in pairs),
        native_fp8=all(chip.native_fp8 for _, chip in pairs),
    )


def slowest_of(hardware: Hardware) -> Chip | None:
    """The slowest of the machine's accelerators: the pace of those that work on every layer together."""
    chips = [one.chip for one in devices_of(hardware)]
    known = [chip for chip in chips if chip is not None]
    return min(known, key=lambda chip: chip.bandwidth_bytes_per_s) if len(known) == len(chips) else None


def _alike(hardware: Hardware) -> tuple[Devices, ...]:
    count = max(1, hardware.count)
    memory = hardware.memory_bytes / count
    chip = find_chip(hardware.name, cores=_gpu_cores(hardware), memory_bytes=memory)
    return (Devices(chip=chip, count=count, memory_bytes=memory),)


def _gpu_cores(hardware: Hardware) -> int:
    told = hardware.details.get("gpu_cores", "")
    return int(told) if told.isdigit() else 0
