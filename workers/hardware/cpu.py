"""A Linux machine's processor and memory from what /proc and the control group say. Pure."""

import math
import os
import re
from collections.abc import Collection, Mapping

from protos.contract.worker import Hardware
from workers.hardware.cgroup import parse_cgroup

VECTOR_EXTENSIONS = (
    "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16",
    "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
"""Those that kernels of inference engines are written for, as /proc/cpuinfo names them."""

ARM_PARTS = {
    ("0x41", "0xd03"): "Cortex-A53", ("0x41", "0xd05"): "Cortex-A55", ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76", ("0x41", "0xd0c"): "Neoverse-N1", ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd49"): "Neoverse-N2", ("0x41", "0xd4f"): "Neoverse-V2", ("0x41", "0xd84"): "Neoverse-V3",
    ("0x41", "0xd8e"): "Neoverse-N3", ("0xc0", "0xac3"): "Ampere-1",
}  # fmt: skip
"""Implementer and part, as util-linux's lscpu-arm.c names them. Others are shown by their numbers."""

MAX_PROCESSORS = 8192
"""Linux is built for no more (CONFIG_NR_CPUS on x86-64)."""

_FLAGS = re.compile(r"^(?:flags|Features)\s*:\s*(?P<words>.*)$", re.MULTILINE)


def parse_linux(outputs: Mapping[str, str]) -> Hardware:
    """The machine as a CPU, from the probes ``cpuinfo``, ``meminfo``, ``status`` and ``cgroup``. Zeros: not known."""
    cpuinfo = outputs.get("cpuinfo", "")
    limits = parse_cgroup(outputs.get("cgroup", ""))
    total, available = parse_meminfo(outputs.get("meminfo", ""))
    mine = parse_allowed(outputs.get("status", ""))
    allowed = len(mine) or cpuinfo_processors(cpuinfo)
    cores = min(allowed, math.ceil(limits.cpus)) if limits.cpus and allowed else allowed
    physical = physical_cores(cpuinfo, mine)
    details = {
        "vector": " ".join(vector_extensions(cpuinfo)),
        "physical_cores": str(min(physical, cores) if cores else physical) if physical else "",
        "cpu_quota": f"{limits.cpus:g}" if limits.cpus else "",
        "memory_limit_bytes": str(limits.memory_bytes or ""),
    }
    return Hardware(
        kind="cpu",
        name=processor_name(cpuinfo),
        memory_bytes=min(total, limits.memory_bytes) if limits.memory_bytes else total,
        usable_memory_bytes=min(available, limits.free_bytes) if limits.memory_bytes else available,
        cores=cores,
        details={key: value for key, value in details.items() if value},
    )


def compute_cores(hardware: Hardware, environment: Mapping[str, str] | None = None) -> int:
    """Cores that an engine may compute on: physical ones, of those this process may use; ``OMP_NUM_THREADS`` caps them,
    as for every program that computes. 0: not known.
    """
    told = hardware.details.get("physical_cores", "")
    cores = int(told) if told.isdigit() else hardware.cores
    cap = (os.environ if environment is None else environment).get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, int(cap)) if cap.isdigit() and int(cap) and cores else cores


def processor_name(cpuinfo: str) -> str:
    """As the kernel names it; an ARM core by its part, known or by number. Empty when nothing is said."""
    fields = _fields(cpuinfo)
    if name := fields.get("model name") or fields.get("cpu model") or fields.get("cpu"):
        return name
    implementer, part = fields.get("CPU implementer", ""), fields.get("CPU part", "")
    if part:
        return ARM_PARTS.get((implementer, part), f"ARM implementer {implementer} part {part}")
    return fields.get("Hardware", "")


def vector_extensions(cpuinfo: str) -> tuple[str, ...]:
    """Those every processor of the machine has, in the order of the table above."""
    sets = [set(found["words"].split()) for found in _FLAGS.finditer(cpuinfo)]
    common = set.intersection(*sets) if sets else set()
    return tuple(one for one in VECTOR_EXTENSIONS if one in common)


def cpuinfo_processors(cpuinfo: str) -> int:
    """Logical processors listed."""
    return len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE))


def physical_cores(cpuinfo: str, allowed: Collection[int] = ()) -> int:
    """Cores, hyperthreads counted once, of the processors ``allowed`` (none: of all); 0 where the kernel does not tell
    (ARM, whose server cores have one thread each).
    """
    cores = set()
    for block in cpuinfo.split("\n\n"):
        fields = _fields(block)
        number = fields.get("processor", "")
        mine = not allowed or not number.isdigit() or int(number) in allowed
        if "core id" in fields and mine:
            cores.add((fields.get("physical id", "0"), fields["core id"]))
    return len(cores)


def parse_meminfo(meminfo: str) -> tuple[int, int]:
    """Bytes in all, and bytes that can be taken without swapping (MemAvailable; before Linux 3.14: MemFree)."""
    kib = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE)}
    return kib.get("MemTotal", 0) * 1024, kib.get("MemAvailable", kib.get("MemFree", 0)) * 1024


def parse_allowed(status: str) -> frozenset[int]:
    """The processors this process may run on, by ``Cpus_allowed_list`` (``0-3,8``)."""
    found = re.search(r"^Cpus_allowed_list:\s*([\d,-]+)$", status, re.MULTILINE)
    allowed: set[int] = set()
    for part in found[1].split(",") if found else ():
        first, _, last = part.partition("-")
        if first.isdigit() and int(first) < MAX_PROCESSORS:
            allowed |= set(range(int(first), min(int(last or first), MAX_PROCESSORS) + 1))
    return frozenset(allowed)


def _fields(cpuinfo: str) -> dict[str, str]:
    """The first processor's fields (and the machine's, which stand at the end)."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, separator, value = line.partition(":")
        if separator and value.strip():
            fields.setdefault(name.strip(), value.strip())
    return fields
