"""Machines as planning sees them: what workers report, with what the catalogue knows (``machine_text`` reads people's).

A machine nobody has asked yet has no working set to report; what others of its kind reported stands for it, and a
note says so.
"""

import itertools
from dataclasses import dataclass

from protos.contract.worker import Hardware
from router.capacity.chips import Chip
from router.capacity.devices import chip_of

GIB = float(2**30)

MAC_WORKING_SETS: tuple[tuple[float, float], ...] = ((0.0, 0.0), (16.0, 10.67), (32.0, 21845 / 1024), (128.0, 107.52))
"""Memory and GPU working set in GiB that Macs reported (FACTS.md, "Overheads"). Between them: on the line; above: the
last share. A Mac that joins reports its own."""

CPU_SHARE = 0.9
"""Of a processor's memory what models may take when nothing was reported: the rest is the system's."""

UNIFIED = "unified"
"""In a machine's details under ``memory``: its accelerator computes in the host's memory, which is counted once."""
UNIFIED_SHARES = {"nvidia": 0.88, "amd": 0.75}
"""Of a box with one memory, by whose chip: a GB10 of 128 GB had 113.1 GiB to take (XuehaiPan/nvitop pull request 208);
of a Strix Halo's 128 GB firmware sets aside 96 at most, and owners give GTT as much (noamsto/nix-amd-ai issue 42)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Hardware with what the catalogue knows of it. ``host_memory_bytes``: beside the accelerators, for offload."""

    name: str
    hardware: Hardware
    chip: Chip | None
    host_memory_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def accelerated(self) -> bool:
        """By GPUs that are no Mac's."""
        return self.hardware.kind in ("nvidia", "amd")

    @property
    def discrete(self) -> bool:
        """Accelerators with memory of their own."""
        return self.accelerated and self.hardware.details.get("memory") != UNIFIED

    @property
    def devices(self) -> int:
        """Accelerators."""
        return max(1, self.hardware.count)


def machine_of(hardware: Hardware) -> Machine:
    """A machine that reported itself."""
    told = hardware.details.get("host_memory_bytes", "")
    memory = hardware.memory_bytes
    guessed = mac_working_set(memory) if hardware.kind == "apple" else CPU_SHARE * memory
    reported = hardware.usable_memory_bytes or round(guessed)  # 0: not known, and nothing is said to fit
    return Machine(
        name=hardware.name,
        hardware=Hardware(
            kind=hardware.kind,
            name=hardware.name,
            count=hardware.count,
            memory_bytes=hardware.memory_bytes,
            usable_memory_bytes=reported,
            bandwidth_bytes_per_s=hardware.bandwidth_bytes_per_s,
            cores=hardware.cores,
            details=hardware.details,
        ),
        chip=chip_of(hardware),
        host_memory_bytes=int(told) if told.isdigit() else 0,
    )


def mac_working_set(memory_bytes: float) -> float:
    """Bytes a Mac of that memory should report as its GPU's working set, from those that did."""
    size = memory_bytes / GIB
    known = MAC_WORKING_SETS
    if size >= known[-1][0]:
        return memory_bytes * known[-1][1] / known[-1][0]
    (low, low_set), (high, high_set) = next(
        pair for pair in itertools.pairwise(known) if pair[0][0] <= size < pair[1][0]
    )
    return (low_set + (high_set - low_set) * (size - low) / (high - low)) * GIB
