"""NVIDIA GPUs from ``nvidia-smi -q``, where NVML's Python binding cannot be asked. Pure.

The report is indented: ``Name : value`` lines, and headings without a value over deeper lines. It does not tell
compute capability, CUDA cores or NVLinks.
"""

import re
from collections.abc import Mapping

from workers.hardware.nvidia import MIG, Gpu, Gpus

MIB = 2**20
_TOTAL = "FB Memory Usage/Total"
_MIG_DEVICE = re.compile(r"^    MIG Device *\n", re.MULTILINE)
Fields = Mapping[str, str]


def parse_nvidia_smi(text: str) -> Gpus:
    """The attached GPUs; none when this is not such a report."""
    head, *blocks = re.split(r"^GPU (?=[0-9A-Fa-f]{8}:)", text, flags=re.MULTILINE)
    top = _flatten(head)
    return Gpus(
        devices=tuple(gpu for gpu in map(_gpu, blocks) if gpu is not None),
        driver=top.get("Driver Version", ""),
        cuda=top.get("CUDA Version", ""),
    )


def _gpu(block: str) -> Gpu | None:
    bus, _, rest = block.partition("\n")
    card, *slices = _MIG_DEVICE.split(rest)
    if slices:  # what follows the last slice's own lines is the card's again
        slices[-1], card = _until_dedent(slices[-1], card)
    fields = _flatten(card)
    name = fields.get("Product Name", "")
    if not name:
        return None
    return Gpu(
        name=name,
        uuid=_told(fields, "GPU UUID"),
        memory_bytes=_mib(fields, _TOTAL),
        free_bytes=_mib(fields, "FB Memory Usage/Free"),
        board_part_number=_told(fields, "Board Part Number"),
        bus=bus.strip(),
        pcie_generation=_number(fields, "PCI/GPU Link Info/PCIe Generation/Max"),
        pcie_width=_number(fields, "PCI/GPU Link Info/Link Width/Max"),
        power_limit_w=float(
            _number(fields, "GPU Power Readings/Current Power Limit") or _number(fields, "Power Readings/Power Limit")
        ),
        mig=fields.get("MIG Mode/Current") == "Enabled",
        memory_error="" if _mib(fields, _TOTAL) else _why_not(fields.get(_TOTAL, "")),
        slices=tuple(_slice(name, _flatten(one)) for one in slices),
    )


def _until_dedent(text: str, card: str) -> tuple[str, str]:
    lines = text.splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith(" " * 8)), None)
    return ("".join(lines[:end]), card + "".join(lines[end:])) if end is not None else (text, card)


def _slice(card: str, fields: Fields) -> Gpu:
    """The report names no profile and no UUID of it."""
    return Gpu(
        name=f"{card} {MIG}",
        memory_bytes=_mib(fields, _TOTAL),
        free_bytes=_mib(fields, "FB Memory Usage/Free"),
        told_multiprocessors=_number(fields, "Device Attributes/Shared/Multiprocessor count"),
    )


def _why_not(said: str) -> str:
    return said or "nvidia-smi does not tell it"


def _flatten(text: str) -> dict[str, str]:
    """``Heading/Heading/Name`` to value, by indentation."""
    fields: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        name, separator, value = line.partition(" : ")
        path = "/".join([*(heading for _, heading in above), name.strip()])
        if separator:
            fields.setdefault(path, value.strip())
        else:
            above.append((indent, name.strip()))
    return fields


def _told(fields: Fields, path: str) -> str:
    value = fields.get(path, "")
    return "" if value == "N/A" else value


def _number(fields: Fields, path: str) -> int:
    found = re.match(r"\d+", fields.get(path, ""))
    return int(found[0]) if found else 0


def _mib(fields: Fields, path: str) -> int:
    return _number(fields, path) * MIB
