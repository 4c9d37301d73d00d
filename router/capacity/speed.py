"""How fast a machine should decode and prefill a model, before anything was measured.

``t = bytes_read / (e * bandwidth) + t0``, t0 growing with layers (FACTS.md, "Decode speed"). A bandwidth measured on
the machine wins over the catalogue; the join benchmark replaces the whole prediction.
"""

from dataclasses import dataclass

from protos.contract.worker import Hardware, ModelInstance, Speed
from router.capacity.chips import Chip, MemoryKind, find_chip
from router.capacity.processors import processor_flops

UNKNOWN_BANDWIDTH_BYTES_PER_S = 50e9
"""A desktop CPU's dual-channel memory: what an unknown machine without a measurement is priced at."""
UNKNOWN_WEIGHTS_BYTES = 4e9
REFERENCE_LAYERS = 32
PREFILL_STEPS_WORTH = 20.0
"""Prompt tokens a machine of unknown compute prefills in one decode step's time: the low end of llama.cpp on CPUs."""
COMPUTE_EFFICIENCY = 0.4
"""Share of the data sheet's 16-bit compute that prefill reaches; corrected by the first requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeConstants:
    """``efficiency``: share of the bandwidth decode reaches; ``overhead_s``: t0 for 32 layers."""

    efficiency: float
    overhead_s: float


BY_MEMORY: dict[MemoryKind, DecodeConstants] = {
    MemoryKind.UNIFIED: DecodeConstants(efficiency=0.94, overhead_s=0.0055),  # mean error 4.0% over 18 Macs
    MemoryKind.GDDR: DecodeConstants(efficiency=1.0, overhead_s=0.0023),  # 3090, 4090, A6000: 0.95 to 1.05
    MemoryKind.HBM: DecodeConstants(efficiency=0.71, overhead_s=0.0029),  # H100 PCIe; A100 0.5
    MemoryKind.DDR: DecodeConstants(efficiency=0.8, overhead_s=0.002),
}
"""FACTS.md, "Decode speed": t0 of NVIDIA 2.3 to 3.5 ms, of Apple 5.5 ms."""


def predict_speed(hardware: Hardware, instance: ModelInstance) -> Speed:
    """Parameters of the cost model for ``instance`` on ``hardware``; never measured, never refused."""
    chip = chip_of(hardware)
    constants = _constants(hardware, chip)
    reached = constants.efficiency * _bandwidth(hardware, chip, _together(hardware, instance))
    layers = instance.layers or REFERENCE_LAYERS
    alone_s = bytes_read(instance) / reached + constants.overhead_s * layers / REFERENCE_LAYERS
    per_token_s = _compute_s(hardware, chip, instance)
    if chip is None:
        alone_s += per_token_s  # a core that unpacks weights does not load the next ones meanwhile
    # an accelerator's first sequence computes behind reading the weights; what it takes is in ``alone_s`` already
    per_sequence_s = min(per_token_s, 0.9 * alone_s) or 0.02 * alone_s
    return Speed(
        base_s=alone_s - per_sequence_s,
        per_sequence_s=per_sequence_s,
        per_context_token_s=instance.kv_bytes_per_token / reached,
        prefill_tokens_per_s=1.0 / per_token_s if per_token_s else PREFILL_STEPS_WORTH / alone_s,
    )


def chip_of(hardware: Hardware) -> Chip | None:
    """The catalogue's entry for one of the machine's accelerators; None: unknown."""
    return find_chip(
        hardware.name, cores=_gpu_cores(hardware), memory_bytes=hardware.memory_bytes / max(1, hardware.count)
    )


def reached_bandwidth(hardware: Hardware, instance: ModelInstance) -> float:
    """Bytes a second that decoding reads, of the devices that read together."""
    chip = chip_of(hardware)
    return _constants(hardware, chip).efficiency * _bandwidth(hardware, chip, _together(hardware, instance))


def _together(hardware: Hardware, instance: ModelInstance) -> int:
    """Devices at work at once: llama.cpp splits by layers and has them take turns, vLLM splits every layer."""
    return 1 if instance.format == "gguf" else max(1, hardware.count)


def _bandwidth(hardware: Hardware, chip: Chip | None, devices: int) -> float:
    if hardware.bandwidth_bytes_per_s:
        return hardware.bandwidth_bytes_per_s
    return chip.bandwidth_bytes_per_s * devices if chip else UNKNOWN_BANDWIDTH_BYTES_PER_S


def _constants(hardware: Hardware, chip: Chip | None) -> DecodeConstants:
    if chip is None:
        kinds = {"apple": MemoryKind.UNIFIED, "nvidia": MemoryKind.GDDR, "amd": MemoryKind.GDDR}
        return BY_MEMORY[kinds.get(hardware.kind, MemoryKind.DDR)]
    usual = BY_MEMORY[chip.memory_kind]
    if not chip.efficiency:
        return usual
    return DecodeConstants(efficiency=chip.efficiency, overhead_s=usual.overhead_s)


def bytes_read(instance: ModelInstance) -> float:
    """Bytes one decode step reads of the weights: of a mixture of experts, the active share."""
    weights = float(instance.weights_bytes or UNKNOWN_WEIGHTS_BYTES)
    if instance.parameters and 0 < instance.active_parameters < instance.parameters:
        return weights * instance.active_parameters / instance.parameters
    return weights


def _compute_s(hardware: Hardware, chip: Chip | None, instance: ModelInstance) -> float:
    """Seconds of compute per token (two operations a weight); 0 where the compute is not known."""
    weights = instance.active_parameters or instance.parameters
    flops = chip.compute_flops * _together(hardware, instance) if chip else processor_flops(hardware)
    return 2.0 * weights / (COMPUTE_EFFICIENCY * flops) if flops and weights else 0.0


def _gpu_cores(hardware: Hardware) -> int:
    told = hardware.details.get("gpu_cores", "")
    return int(told) if told.isdigit() else 0
