"""Machines as people write them (``M4 Max 128GB``, ``2x RTX 4090 + 64GB``) or as workers report them.

A machine nobody has asked yet has no working set to report; what others of its kind reported stands for it, and a
note says so.
"""

import difflib
import itertools
import re
from dataclasses import dataclass

from protos.contract.worker import Hardware
from router.capacity.chips import CHIPS, Chip, find_chip, words_of
from router.capacity.speed import chip_of
from router.errors import ConfigError

GIB = float(2**30)

MAC_WORKING_SETS: tuple[tuple[float, float], ...] = ((0.0, 0.0), (16.0, 10.67), (32.0, 21845 / 1024), (128.0, 107.52))
"""Memory and GPU working set in GiB that Macs reported (FACTS.md, "Overheads"). Between them: on the line; above: the
last share. A Mac that joins reports its own."""

_FULL_CHIPS: dict[str, tuple[int, frozenset[int]]] = {
    "M3 Max": (40, frozenset({48, 64, 128})),
    "M4 Max": (40, frozenset({48, 64, 128})),
}
"""Memory sizes in GB that are sold with the larger GPU only (Apple's technical specifications)."""

CPU_SHARE = 0.9
"""Of a processor's memory what models may take when nothing was reported: the rest is the system's."""

MAX_DEVICES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Hardware with what the catalogue knows of it. ``host_memory_bytes``: beside the accelerators, for offload."""

    name: str
    hardware: Hardware
    chip: Chip | None
    host_memory_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def discrete(self) -> bool:
        """Accelerators with memory of their own."""
        return self.hardware.kind in ("nvidia", "amd")

    @property
    def devices(self) -> int:
        """Accelerators."""
        return max(1, self.hardware.count)


def machine_of(hardware: Hardware) -> Machine:
    """A machine that reported itself."""
    told = hardware.details.get("host_memory_bytes", "")
    reported = hardware.usable_memory_bytes or round(CPU_SHARE * hardware.memory_bytes)
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


_COUNT = re.compile(r"\s*([-+]?[\d.,_]+)\s*[x×]\s*(?=[A-Za-z])", re.IGNORECASE)  # noqa: RUF001 - people paste it
_MEMORY = re.compile(r"\b(\d{1,5}(?:\.\d)?)\s*(GB|GiB|G|TB|TiB)\b", re.IGNORECASE)
_CORES = re.compile(r"\b\d{1,3}\s*-?\s*(?:gpu\s*)?(?:c|cores?)\b", re.IGNORECASE)
_TIER = re.compile(r"\b(?:pro|max|ultra)\b")
_BESIDE = re.compile(r"\s*(?:of|host|system|ram|memory|ddr\d|\s)*", re.IGNORECASE)
"""What may stand around the memory behind ``+``."""
_SAYS_NOTHING = frozenset(
    {
        "mac", "macbook", "imac", "studio", "mini", "air", "with", "and", "of", "memory", "ram", "vram", "unified",
        "cpu", "pcie", "sxm", "hbm2", "hbm2e", "hbm3", "hbm3e", "gddr6", "gddr6x",
    }
)  # fmt: skip
"""Words people write beside a chip's name that change nothing of what the catalogue knows."""
_PROCESSOR = re.compile(r"\b(cpu|xeon|epyc|ryzen|threadripper|core i\d|graviton)\b", re.IGNORECASE)


def parse_machine(text: str) -> Machine:
    """``M4 Max 128GB``, ``H100``, ``2x RTX 4090 + 64GB``, ``cpu 64GB``. Raises ConfigError with near matches.

    >>> mac = parse_machine("M4 Max 128GB")
    >>> mac.hardware.kind, round(mac.hardware.usable_memory_bytes / 2**30, 1)
    ('apple', 107.5)
    """
    counted = _COUNT.match(text)
    count = _devices(text, counted.group(1)) if counted else 1
    body, plus, beside = text[counted.end() if counted else 0 :].partition("+")
    host = _memory(beside)
    if plus and not (host and _BESIDE.fullmatch(_MEMORY.sub("", beside, count=1))):
        raise ConfigError(f"--on {text!r}: after + comes the memory beside the accelerators, for example + 64GB")
    if len(_MEMORY.findall(body)) > 1:
        raise ConfigError(f"--on {text!r}: two sizes of memory; that of one device, and the host's after +")
    chip = find_chip(body)
    memory = _memory(body)
    # "M4 Ultra" is no M4: a tier that the chip's name lacks is a chip that does not exist
    if chip is not None and _tiers(body) <= _tiers(chip.name, *chip.aliases):
        _nothing_else(text, body, chip)
        return _known(text, chip, count, memory, host)
    if _PROCESSOR.search(body):
        if count > 1 or host:
            raise ConfigError(f"--on {text!r}: processors share one memory; write it all at once: 'cpu 64GB'")
        return _processor(text, body, memory)
    names = {alias.lower(): one.name for one in CHIPS for alias in (one.name, *one.aliases)}
    said = _MEMORY.sub("", body).strip().lower()
    near = dict.fromkeys(names[one] for one in difflib.get_close_matches(said, names, n=5, cutoff=0.5))
    hint = f"did you mean {' or '.join(list(near)[:3])}?" if near else "name a chip, for example 'M4 Max 128GB'"
    raise ConfigError(f"--on {text!r}: no such chip in the catalogue; {hint} (a processor: 'cpu 64GB')")


def _devices(text: str, number: str) -> int:
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:9]) <= MAX_DEVICES:
        raise ConfigError(f"--on {text!r}: {number} devices; write a number between 1 and {MAX_DEVICES}")
    return int(number)


def _nothing_else(text: str, body: str, chip: Chip) -> None:
    """Raises ConfigError for words that the chip's name does not explain: they may mean another chip, or more of it."""
    rest = _CORES.sub(" ", _MEMORY.sub(" ", body))
    known = {word for name in (chip.name, *chip.aliases) for word in words_of(name)}
    odd = [word for word in words_of(rest) if word not in known and word not in _SAYS_NOTHING]
    if re.search(r"(?:^|\s)[-–]\s*\w", body):  # noqa: RUF001 - a minus, as people paste it
        odd.insert(0, "-")
    if not odd:
        return
    if any(re.fullmatch(r"x?\d{1,9}x?", word) for word in odd):
        raise ConfigError(f"--on {text!r}: the number of devices comes first, with an x: '2x {chip.name}'")
    said = " ".join(odd)
    raise ConfigError(f"--on {text!r}: {said!r} says nothing of a {chip.name}; leave it out, or name the chip you mean")


def _known(text: str, chip: Chip, count: int, memory: float, host: float) -> Machine:
    each = memory or chip.memory_bytes
    if not each:
        raise ConfigError(f"--on {text!r}: {chip.name} is sold with several sizes; add it: '{chip.name} 64GB'")
    unified = chip.kind == "apple"
    cores, sizes = _FULL_CHIPS.get(chip.name, (0, frozenset()))
    if round(each / GIB) in sizes and not _CORES.search(text):
        chip = find_chip(chip.name, cores=cores) or chip
    if unified and count > 1:
        raise ConfigError(f"--on {text!r}: a Mac is one machine; give --on once for each")
    notes: tuple[str, ...] = ()
    usable = each * count
    if unified:
        usable = mac_working_set(each)
        seen = any(abs(each / GIB - size) < 0.5 for size, _ in MAC_WORKING_SETS)
        notes = (f"{usable / GIB:.0f} GiB for the GPU {'as others reported' if seen else 'is an estimate'}",)
    return Machine(
        name=" ".join(text.split()),
        hardware=Hardware(
            kind=chip.kind,
            name=chip.name,
            count=count,
            memory_bytes=round(each * count),
            usable_memory_bytes=round(usable),
            cores=chip.gpu_cores,
            details={"gpu_cores": str(chip.gpu_cores)} if chip.gpu_cores else {},
        ),
        chip=chip,
        host_memory_bytes=round(host),
        notes=notes,
    )


def _processor(text: str, body: str, memory: float) -> Machine:
    if not memory:
        raise ConfigError(f"--on {text!r}: say how much memory it has, for example 'cpu 64GB'")
    return Machine(
        name=" ".join(text.split()),
        hardware=Hardware(
            kind="cpu",
            name=_MEMORY.sub("", body).strip(),
            memory_bytes=round(memory),
            usable_memory_bytes=round(CPU_SHARE * memory),
        ),
        chip=None,
        notes=("bandwidth taken to be a desktop's 50 GB/s; joining measures it",),
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


def _tiers(*texts: str) -> set[str]:
    return {tier for text in texts for tier in _TIER.findall(text.lower())}


def _memory(text: str) -> float:
    found = _MEMORY.search(text)
    if found is None:
        return 0.0
    return float(found.group(1)) * GIB * (1024 if found.group(2).lower().startswith("t") else 1)
