"""``allsorts doctor --selftest``: every probe, what it said, what was understood of it, and whether that agrees.

For owners of machines that this was never run on: whoever reads it sees at once which line is wrong.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from rich.console import Console

from protos.contract.worker import Hardware
from workers.hardware.apple import GIB, read_mac
from workers.hardware.cpu import cpuinfo_processors
from workers.hardware.detect import understand, understood
from workers.hardware.nvidia import parse_nvml
from workers.hardware.nvidia_smi import parse_nvidia_smi
from workers.hardware.probes import Reading, ask_all
from workers.hardware.recording import redacted, write_recording

SHOWN_LINES = 8
"""Of each probe's answer; ``--record`` writes all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two things that have to fit together, and whether they do."""

    what: str
    ok: bool
    detail: str


def selftest(console: Console, *, record: Path | None = None, system: str = sys.platform) -> int:
    """Show everything; the number of probes that failed and of things that do not agree."""
    readings = ask_all(system, every=True)
    for reading in readings:
        _show_reading(console, reading)
    found = understood(understand(system, readings))
    console.print("understood:")
    for field in fields(found):
        if value := getattr(found, field.name):
            console.print(f"  {field.name} = {value}", markup=False, soft_wrap=True)
    wrong = sum(bool(one.error) for one in readings)
    for one in agreements(system, readings, found):
        console.print(("[green]ok  [/green] " if one.ok else "[red]ODD [/red] ") + one.what + ": ", end="")
        console.print(one.detail, markup=False, soft_wrap=True)
        wrong += not one.ok
    if record is not None:
        write_recording(record, readings)
        console.print(f"written to {record}, serial numbers removed", markup=False)
    console.print("everything agrees" if not wrong else f"{wrong} to look at; --record DIR writes it down to send in")
    return wrong


def _show_reading(console: Console, reading: Reading) -> None:
    mark = "[red]FAIL[/red]" if reading.error else "[green]ok  [/green]"
    console.print(f"{mark} {reading.name:<16} {reading.seconds:.1f} s  ", end="")
    console.print(reading.asked, markup=False, soft_wrap=True)
    if reading.error:
        console.print(f"       {reading.error}", markup=False, soft_wrap=True)
    lines = [line for line in redacted(reading.output).splitlines() if line.strip()]
    for line in lines[:SHOWN_LINES]:
        console.print(f"       | {line[:150]}", markup=False, soft_wrap=True)
    if len(lines) > SHOWN_LINES:
        console.print(f"       | … {len(lines) - SHOWN_LINES} more lines")


def agreements(system: str, readings: Sequence[Reading], found: Hardware) -> Iterator[Agreement]:
    """What can be compared on such a machine. Pure."""
    outputs = {one.name: one.output for one in readings}
    usable, memory = found.usable_memory_bytes, found.memory_bytes
    told = found.details.get("memory", "")
    yield Agreement(
        what="memory",
        ok=0 < usable <= memory,
        detail=f"{usable / GIB:.2f} GiB for models of {memory / GIB:.2f} GiB" + (f"; {told}" if told else ""),
    )
    yield Agreement(what="name", ok=bool(found.name), detail=found.name or "nobody named the chip")
    if system == "darwin":
        yield from _mac(outputs)
    elif found.kind == "nvidia":
        yield from _nvidia(outputs, found)
    elif system == "linux":
        listed = cpuinfo_processors(outputs.get("cpuinfo", ""))
        detail = f"{found.cores} to run on, {listed} in the machine"
        yield Agreement(what="cores", ok=0 < found.cores <= listed, detail=detail)


def _mac(outputs: dict[str, str]) -> Iterator[Agreement]:
    mac = read_mac(outputs)
    by_sysctl = mac.sysctl.get("machdep.cpu.brand_string", "")
    yield Agreement(
        what="chip",
        ok=mac.profiler.chip.removesuffix(" (Virtual)") == by_sysctl.removesuffix(" (Virtual)") != "",
        detail=f"system_profiler: {mac.profiler.chip or 'nothing'}; sysctl: {by_sysctl or 'nothing'}",
    )
    told = int(mac.sysctl.get("hw.memsize", "0") or 0)
    yield Agreement(
        what="memory twice",
        ok=told == mac.profiler.memory_bytes > 0,
        detail=f"sysctl: {told / GIB:.2f} GiB; system_profiler: {mac.profiler.memory_bytes / GIB:.2f} GiB",
    )
    if not mac.apple_silicon:
        return
    yield Agreement(what="gpu cores", ok=mac.profiler.gpu_cores > 0, detail=str(mac.profiler.gpu_cores))
    yield Agreement(
        what="metal",
        ok=mac.metal.unified and mac.metal.name == mac.profiler.gpu and mac.metal.working_set_bytes > 0,
        detail=f"{mac.metal.name or 'nothing'}, working set {mac.metal.working_set_bytes / GIB:.2f} GiB",
    )
    source = {True: "battery", False: "mains", None: "nothing"}[mac.on_battery]
    yield Agreement(
        what="power", ok=mac.on_battery is not None, detail=f"{source}; mode {mac.power_mode or 'not told'}"
    )


def _nvidia(outputs: dict[str, str], found: Hardware) -> Iterator[Agreement]:
    by_nvml, by_smi = parse_nvml(outputs.get("nvml", "")), parse_nvidia_smi(outputs.get("nvidia_smi", ""))
    yield Agreement(
        what="compute capability", ok=bool(found.compute_capability), detail=found.compute_capability or "not told"
    )
    form = found.details.get("form_factor", "")
    yield Agreement(
        what="form factor", ok=bool(form), detail=f"{form or 'not known'}, {found.interconnect or 'no link'}"
    )
    if by_nvml.devices and by_smi.devices:
        pairs = [(one.name, one.memory_bytes >> 20) for one in by_nvml.devices]
        others = [(one.name, one.memory_bytes >> 20) for one in by_smi.devices]
        yield Agreement(
            what="nvidia-smi", ok=pairs == others, detail=f"{len(pairs)} by NVML, {len(others)} by nvidia-smi"
        )
