"""Machines as people write them: ``M4 Max 128GB``, ``2x RTX 4090 + 64GB``, ``H100, 4090, M1 16GB``.

Names are read whole: what is not understood is an error with near matches, never left out.
"""

import difflib
import re

from protos.contract.worker import Hardware
from router.capacity.chips import CHIPS, Chip, MemoryKind, find_chip, nearest_chip, unexplained
from router.capacity.devices import chip_of
from router.capacity.machines import CPU_SHARE, GIB, MAC_WORKING_SETS, UNIFIED, UNIFIED_SHARES, Machine, mac_working_set
from router.errors import ConfigError

_FULL_CHIPS: dict[str, tuple[int, frozenset[int]]] = {
    "M3 Max": (40, frozenset({48, 64, 128})),
    "M4 Max": (40, frozenset({48, 64, 128})),
}
"""Memory sizes in GB that are sold with the larger GPU only (Apple's technical specifications)."""

MIG = "MIG"
"""Behind a card's name: a slice of it."""
MAX_DEVICES = 64

_COUNT = re.compile(r"\s*([-+]?[\d.,_]+)\s*[x×]\s*(?=[A-Za-z]|\d{4}\b)", re.IGNORECASE)  # noqa: RUF001 - people paste it
_MEMORY = re.compile(r"\b(\d{1,5}(?:\.\d)?)\s*(GB|GiB|G|TB|TiB)\b", re.IGNORECASE)
_CORES = re.compile(r"\b\d{1,3}\s*-?\s*(?:gpu\s*)?(?:c|cores?)\b", re.IGNORECASE)
_TIER = re.compile(r"\b(?:pro|max|ultra)\b")
_BESIDE = re.compile(r"\s*(?:of|host|system|ram|memory|ddr\d|\s)*", re.IGNORECASE)
"""What may stand around the memory behind ``+``."""
_PLUS_OF_A_NAME = re.compile(r"(?<=\bmax)\+(?=\s*(?:pro\b\s*)?\d)", re.IGNORECASE)
"""Ryzen AI Max+ 395, Ryzen AI Max+ PRO 395: a plus that is part of a name, and behind which a model's number comes."""
_PROCESSOR = re.compile(r"\b(cpu|xeon|epyc|ryzen|threadripper|core i\d|graviton)\b", re.IGNORECASE)
_SAYS_MORE = re.compile(r"[\s()]*(?:[\d.]+\s*(?:GB|GiB|G|TB|TiB)|\d{1,3}\s*-?\s*(?:gpu\s*)?cores?(?:\s*gpu)?|\+.*|"
                        r"(?:unified\s+)?(?:memory|ram)|\s)+[\s()]*", re.IGNORECASE)  # fmt: skip
"""A part between commas that says more of the machine before it: ``M4 Max, 40-core GPU, 128GB``."""


def parse_machines(text: str) -> tuple[Machine, ...]:
    """Machines between commas. A comma inside a machine (``M1 Max, 64GB``) is none between two. Raises ConfigError.

    >>> [machine.name for machine in parse_machines("H100, 4090, M1 16GB")]
    ['H100', '4090', 'M1 16GB']
    """
    parts: list[str] = []
    for part in text.split(","):
        if parts and _SAYS_MORE.fullmatch(part):
            parts[-1] = f"{parts[-1]} {part.strip()}"
        elif part.strip() or not parts:
            parts.append(part)
    return tuple(parse_machine(part) for part in parts)


def parse_machine(text: str) -> Machine:
    """``M4 Max 128GB``, ``H100``, ``2x RTX 4090 + 64GB``, ``cpu 64GB``. Raises ConfigError with near matches.

    >>> mac = parse_machine("M4 Max 128GB")
    >>> mac.hardware.kind, round(mac.hardware.usable_memory_bytes / 2**30, 1)
    ('apple', 107.5)
    """
    counted = None if find_chip(_bare_number(text)) else _COUNT.match(text)  # 7900 XTX are not so many TX
    count = _devices(text, counted.group(1)) if counted else 1
    named = _PLUS_OF_A_NAME.sub(" ", text[counted.end() if counted else 0 :])
    body, *more = named.split("+")
    host = _memory(more[-1]) if more and _BESIDE.fullmatch(_MEMORY.sub("", more[-1], count=1)) else 0.0
    cards = more[:-1] if host else more
    if cards:
        return _with_more(text, f"{text[: counted.end()] if counted else ''}{body}", cards, host)
    if (slice_of := find_chip(body)) is not None and MIG in body.upper().split():
        return _known(text, slice_of, count, slice_of.memory_bytes, host)
    if len(_MEMORY.findall(body)) > 1:
        raise ConfigError(f"--on {text!r}: two sizes of memory; that of one device, and the host's after +")
    chip = nearest_chip(_bare_number(body))
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


def _with_more(text: str, first: str, cards: list[str], host: float) -> Machine:
    """A box with cards of several kinds: ``RTX 3090 + 2x RTX 3060 + 64GB``."""
    if any(nearest_chip(_bare_number(card)) is None for card in cards):
        hint = "after + comes another card, or the memory beside the accelerators, for example + 64GB"
        raise ConfigError(f"--on {text!r}: {hint}")
    machines = [parse_machine(card.strip()) for card in (first, *cards)]
    kinds = {machine.hardware.kind for machine in machines}
    if len(kinds) > 1 or not all(machine.discrete for machine in machines):
        raise ConfigError(f"--on {text!r}: only cards of one maker, with memory of their own, share a model")
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    for machine in machines:
        name = machine.hardware.name
        counts[name] = counts.get(name, 0) + machine.devices
        sizes[name] = machine.hardware.memory_bytes // machine.devices
    memory = sum(counts[name] * sizes[name] for name in counts)
    details = {
        "devices": ", ".join(f"{count} x {name}" for name, count in counts.items()),
        "devices_memory_bytes": ", ".join(str(sizes[name]) for name in counts),
    }
    hardware = Hardware(
        kind=kinds.pop(), name=max(counts, key=lambda name: counts[name]), count=sum(counts.values()),
        memory_bytes=memory, usable_memory_bytes=memory, details=details if len(counts) > 1 else {},
    )  # fmt: skip
    return Machine(
        name=" ".join(text.split()), hardware=hardware, chip=chip_of(hardware), host_memory_bytes=round(host)
    )


def _bare_number(body: str) -> str:
    """``4090`` as ``RTX 4090``: with its maker's word, where that makes a chip of it and without it there is none."""
    if nearest_chip(body) is None and (found := re.search(r"\b\d{4}\b", _MEMORY.sub(" ", body))):
        for maker in ("RTX", "RX"):
            named = f"{body[: found.start()]}{maker} {body[found.start() :]}"
            if nearest_chip(named) is not None:
                return named
    return body


def _devices(text: str, number: str) -> int:
    if not number.isascii() or not number.isdigit() or not 1 <= int(number[:9]) <= MAX_DEVICES:
        raise ConfigError(f"--on {text!r}: {number} devices; write a number between 1 and {MAX_DEVICES}")
    return int(number)


def _nothing_else(text: str, body: str, chip: Chip) -> None:
    """Raises ConfigError for words that the chip's name does not explain: they may mean another chip, or more of it."""
    odd = unexplained(body, chip)
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
    unified = chip.memory_kind is MemoryKind.UNIFIED
    cores, sizes = _FULL_CHIPS.get(chip.name, (0, frozenset()))
    if round(each / GIB) in sizes and not _CORES.search(text):
        chip = find_chip(chip.name, cores=cores) or chip
    if unified and count > 1:
        what = "a Mac" if chip.kind == "apple" else f"a {chip.name}"
        raise ConfigError(f"--on {text!r}: {what} is one machine; give --on once for each")
    if unified and host:
        raise ConfigError(f"--on {text!r}: a {chip.name} has one memory for all; write it once: '{chip.name} 128GB'")
    usable, notes = _usable(chip, each) if unified else (each * count, ())
    details = {"gpu_cores": str(chip.gpu_cores)} if chip.gpu_cores else {}
    return Machine(
        name=" ".join(text.split()),
        hardware=Hardware(
            kind=chip.kind,
            name=chip.name,
            count=count,
            memory_bytes=round(each * count),
            usable_memory_bytes=round(usable),
            cores=chip.gpu_cores,
            details=details | ({"memory": UNIFIED} if unified and chip.kind != "apple" else {}),
        ),
        chip=chip,
        host_memory_bytes=round(host),
        notes=notes,
    )


def _usable(chip: Chip, memory_bytes: float) -> tuple[float, tuple[str, ...]]:
    """What models may take of memory that the processor needs a part of."""
    if chip.kind == "apple":
        usable = mac_working_set(memory_bytes)
        seen = any(abs(memory_bytes / GIB - size) < 0.5 for size, _ in MAC_WORKING_SETS)
        return usable, (f"{usable / GIB:.0f} GiB for the GPU {'as others reported' if seen else 'is an estimate'}",)
    usable = UNIFIED_SHARES[chip.kind] * memory_bytes
    if chip.kind == "amd":
        return usable, (f"{usable / GIB:.0f} GiB for the GPU once it is told (ttm.pages_limit); Linux gives it half",)
    return usable, (f"{usable / GIB:.0f} GiB for the GPU, the rest is the system's",)


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


def _tiers(*texts: str) -> set[str]:
    return {tier for text in texts for tier in _TIER.findall(text.lower())}


def _memory(text: str) -> float:
    found = _MEMORY.search(text)
    if found is None:
        return 0.0
    return float(found.group(1)) * GIB * (1024 if found.group(2).lower().startswith("t") else 1)
