"""Limits of a control group, version 1 and 2. Pure: paths and texts in, limits out.

Formats: kernel documentation, admin-guide/cgroup-v1/memory.rst, admin-guide/cgroup-v2.rst, scheduler/sched-bwc.rst.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

MOUNT = "/sys/fs/cgroup"
UNLIMITED_BYTES = 2**60
"""Version 1 writes 2^63 - 4096 for no limit; no machine has this much."""

_V1_MEMORY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
_V1_CPU = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
_V2 = ("memory.max", "memory.high", "memory.current", "memory.stat", "cpu.max")
_HEADING = re.compile(r"^==> (?P<path>.+) <==$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a group allows; 0: no limit. ``free_bytes``: below the tightest limit, with what can be dropped."""

    memory_bytes: int = 0
    free_bytes: int = 0
    cpus: float = 0.0


def cgroup_files(proc_self_cgroup: str) -> list[str]:
    """The files that hold the limits of the group that ``/proc/self/cgroup`` names, and of all groups around it.

    In a container the named path may be the host's; the mount's root is then the container's own group.
    """
    files: list[str] = []
    for line in proc_self_cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if not controllers:
            files += _up(MOUNT, path, _V2)
        if "memory" in names:
            files += _up(f"{MOUNT}/memory", path, _V1_MEMORY)
        if "cpu" in names:
            files += _up(f"{MOUNT}/cpu", path, _V1_CPU)
            files += _up(f"{MOUNT}/{controllers}", path, _V1_CPU)
    return list(dict.fromkeys(files))


def _up(mount: str, path: str, names: tuple[str, ...]) -> list[str]:
    inner = PurePosixPath(path.strip() or "/").relative_to("/") if path.startswith("/") else PurePosixPath()
    groups = [inner, *inner.parents] if inner.parts else [PurePosixPath()]
    return [str(PurePosixPath(mount) / group / name) for group in groups for name in names]


def parse_cgroup(text: str) -> Limits:
    """The tightest limits in files shown under ``==> path <==`` headings. What is unreadable is no limit."""
    groups: dict[str, dict[str, str]] = {}
    for path, content in _sections(text):
        folder, _, name = path.rpartition("/")
        groups.setdefault(folder, {})[name] = content
    memory = [_memory(group) for group in groups.values()]
    bounded = [one for one in memory if one.memory_bytes]
    cpus = [one for one in map(_cpus, groups.values()) if one]
    return Limits(
        memory_bytes=min((one.memory_bytes for one in bounded), default=0),
        free_bytes=min((one.free_bytes for one in bounded), default=0),
        cpus=min(cpus, default=0.0),
    )


def _sections(text: str) -> list[tuple[str, str]]:
    heads = list(_HEADING.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return [(head["path"], text[head.end() : end].strip()) for head, end in zip(heads, ends, strict=False)]


_RECLAIMABLE = ("inactive_file", "active_file", "slab_reclaimable")
"""Page cache, read once or often, and caches of names and inodes: dropped before anything is refused. Files in memory
(shmem) lie with the anonymous pages and are none of it."""


def _memory(group: Mapping[str, str]) -> Limits:
    told = [_number(group.get(name, "")) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    limit = min((one for one in told if 0 < one < UNLIMITED_BYTES), default=0)
    if not limit:
        return Limits()
    used = _number(group.get("memory.current", "") or group.get("memory.usage_in_bytes", ""))
    stat = dict(line.split(maxsplit=1) for line in group.get("memory.stat", "").splitlines() if " " in line)
    # version 1 counts a group's own pages apart from those with what is below it, as version 2 always does
    reclaimable = sum(_number(stat.get(f"total_{name}", "") or stat.get(name, "")) for name in _RECLAIMABLE)
    return Limits(memory_bytes=limit, free_bytes=max(limit - max(used - reclaimable, 0), 0))


def _cpus(group: Mapping[str, str]) -> float:
    quota, _, period = group.get("cpu.max", "").partition(" ")
    quota = quota or group.get("cpu.cfs_quota_us", "")
    period = period or group.get("cpu.cfs_period_us", "")
    allowed, each = _number(quota), _number(period)
    return allowed / each if allowed > 0 and each > 0 else 0.0


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdigit() else 0
