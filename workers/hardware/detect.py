"""Which machine this is: probes asked or a recording read, and the parser that has the last word."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from protos.contract.worker import Hardware
from workers.hardware.amd import describe_amd, parse_amd
from workers.hardware.apple import parse_mac
from workers.hardware.cpu import parse_linux
from workers.hardware.nvidia import describe, parse_nvml
from workers.hardware.nvidia_smi import parse_nvidia_smi
from workers.hardware.probes import Reading, ask_all
from workers.hardware.recording import VARIABLE, read_recording


def this_machine(*, gpu: bool = True) -> Hardware:
    """The machine as an engine uses it: by its GPU where there is one, by its processor otherwise or without ``gpu``.

    Blocks for as long as its commands take, seconds on a Mac. Raises BadRecording when ALLSORTS_HARDWARE_RECORDING
    names a folder that is none; never for a machine it does not know.
    """
    recorded = os.environ.get(VARIABLE, "")
    if recorded:
        recording = read_recording(Path(recorded))
        found = understand(recording.system, recording.readings, gpu=gpu)
        return replace(found, details={**found.details, "recording": recording.name})
    return understood(understand(sys.platform, ask_all(), gpu=gpu))


def understand(system: str, readings: Sequence[Reading], *, gpu: bool = True) -> Hardware:
    """What the probes' outputs amount to. Pure."""
    outputs = {one.name: one.output for one in readings}
    if system == "darwin":
        return parse_mac(outputs, gpu=gpu)
    if system != "linux":
        return Hardware(kind="cpu", name="")
    machine = parse_linux(outputs)
    card = _gpus(outputs, machine) if gpu else None
    if card is None:
        return machine
    host = {"cpu": machine.name, "cpu_cores": str(machine.cores)}
    if not _shares(card):  # memory that is one is counted once
        host["host_memory_bytes"] = str(machine.memory_bytes)
    if cores := machine.details.get("physical_cores"):
        host["physical_cores"] = cores
    return replace(card, details={**card.details, **host})


def _shares(card: Hardware) -> bool:
    return card.details.get("memory") == "unified"


def _gpus(outputs: Mapping[str, str], host: Hardware) -> Hardware | None:
    gpus = parse_nvml(outputs.get("nvml", ""))
    if not gpus.devices:
        told = parse_nvidia_smi(outputs.get("nvidia_smi", ""))
        gpus = replace(told, visible=gpus.visible if gpus.visible is not None else _visible("CUDA_VISIBLE_DEVICES"))
    return describe(gpus, host) or describe_amd(parse_amd(outputs), host, _visible("HIP_VISIBLE_DEVICES"))


def _visible(variable: str) -> str | None:
    return None if os.environ.get(VARIABLE) else os.environ.get(variable)


def understood(found: Hardware) -> Hardware:
    """With what every system tells, where its own probes told nothing: a name, cores and memory there always are.

    The host's memory is a processor's: of a GPU's, what is not known stays so.
    """
    memory = psutil.virtual_memory()
    return replace(
        found,
        name=found.name or platform.processor() or platform.machine() or "unknown processor",
        cores=found.cores or (0 if found.kind != "cpu" else os.cpu_count() or 1),
        memory_bytes=found.memory_bytes or (memory.total if found.kind == "cpu" else 0),
        usable_memory_bytes=found.usable_memory_bytes or (memory.available if found.kind == "cpu" else 0),
    )
