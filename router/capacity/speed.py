"""How fast a machine should decode and prefill a model, before anything was measured.

``t = bytes_read / (e * bandwidth) + t0``, t0 growing with layers (FACTS.md, "Decode speed"); on NVIDIA's cards by their
kernels, batch by batch (``kernels``). A bandwidth measured on the machine wins over the catalogue; the join benchmark
replaces the whole prediction, and ``how_sure`` says what it is worth until then.
"""

from dataclasses import dataclass
from enum import StrEnum

from protos.contract.curve import CurvePoint
from protos.contract.models.quantization import Family, find_format
from protos.contract.worker import Hardware, ModelInstance, Speed
from router.capacity.chips import Chip, MemoryKind
from router.capacity.devices import chip_of, slowest_of
from router.capacity.kernels import (
    NARROW_SEQUENCES,
    PLAIN_SHARE,
    TILED_SHARE,
    VLLM_SHARE,
    Card,
    Work,
    card_of,
    llama_cpp_step_s,
    vllm_step_s,
)
from router.capacity.processors import processor_flops

__all__ = ["Basis", "bytes_read", "chip_of", "how_sure", "predict_speed", "reached_bandwidth"]

UNKNOWN_BANDWIDTH_BYTES_PER_S = 50e9
"""A desktop CPU's dual-channel memory: what an unknown machine without a measurement is priced at."""
UNKNOWN_WEIGHTS_BYTES = 4e9
UNKNOWN_WEIGHT_BYTES = 0.6
"""Of one weight, where only the file's size is known: about 4.8 bits."""
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


CURVE_BATCHES = (1, 2, 4, NARROW_SEQUENCES, NARROW_SEQUENCES + 1, 16, 32, 64, 128)
"""Where a predicted curve has its points: a kernel changes behind the eighth sequence."""


class Basis(StrEnum):
    """What a prediction rests on, and by how much it may be off."""

    THIS_CHIP = "measured on this chip: median 6%, worst 25% off"
    THIS_KIND = "one stream was measured on chips of this kind: median 4%, worst 23% off"
    SCALED = "scaled from other chips: may be off by half"
    GUESS = "a guess: may be off by a factor of two or more"


_MEASURED = frozenset({"H100 SXM"})
"""Chips on which every batch was measured (FACTS.md, "H100, measured")."""


def predict_speed(hardware: Hardware, instance: ModelInstance) -> Speed:
    """Parameters of the cost model for ``instance`` on ``hardware``; never measured, never refused."""
    chip = _chip(hardware, instance)
    constants = _constants(hardware, chip)
    devices = _together(hardware, instance)
    bandwidth = _bandwidth(hardware, chip, devices)
    reached = constants.efficiency * bandwidth
    layers = instance.layers or REFERENCE_LAYERS
    alone_s = bytes_read(instance) / reached + constants.overhead_s * layers / REFERENCE_LAYERS
    if chip is not None and _has_kernels(chip):
        card = card_of(chip, bytes_per_s=bandwidth, devices=devices)
        return _by_kernels(instance, chip, card, alone_s)
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


def how_sure(hardware: Hardware, instance: ModelInstance) -> Basis:
    """What ``predict_speed`` is worth there."""
    chip = _chip(hardware, instance)
    if chip is None:
        return Basis.GUESS
    if chip.name in _MEASURED and instance.parameters:
        return Basis.THIS_CHIP
    if _llama_cpp(instance) and chip.memory_kind is not MemoryKind.HBM and chip.kind != "amd":
        return Basis.THIS_KIND
    return Basis.SCALED


def _has_kernels(chip: Chip) -> bool:
    return chip.kind == "nvidia" and chip.memory_kind in (MemoryKind.HBM, MemoryKind.GDDR)


def _by_kernels(instance: ModelInstance, chip: Chip, card: Card, alone_s: float) -> Speed:
    """A curve by the card's kernels. Where one sequence alone was measured on such cards, it starts there."""
    weights = float(instance.active_parameters or instance.parameters) or bytes_read(instance) / UNKNOWN_WEIGHT_BYTES
    work = Work(
        read_bytes=bytes_read(instance),
        weights=weights,
        layers=instance.layers or REFERENCE_LAYERS,
        packed=_packed(instance),
    )
    tiled = TILED_SHARE if chip.memory_kind is MemoryKind.HBM else COMPUTE_EFFICIENCY
    if _llama_cpp(instance):
        steps_s = [llama_cpp_step_s(work, card, batch, tiled_share=tiled) for batch in CURVE_BATCHES]
        share = tiled if work.packed else PLAIN_SHARE
    else:
        steps_s = [vllm_step_s(work, card, batch) for batch in CURVE_BATCHES]
        share = VLLM_SHARE
    if _llama_cpp(instance) and (chip.efficiency or chip.memory_kind is MemoryKind.GDDR):
        steps_s = [alone_s + max(0.0, one - steps_s[0]) for one in steps_s]
    most = max(2, min(instance.slots, CURVE_BATCHES[-1]))
    curve = tuple(CurvePoint(at=at, seconds=one) for at, one in zip(CURVE_BATCHES, steps_s, strict=True))
    at_most = Speed(
        base_s=0, per_sequence_s=0, per_context_token_s=0, prefill_tokens_per_s=1, decode_curve=curve
    ).step_s(most, 0)
    per_sequence_s = max(0.0, (at_most - steps_s[0]) / (most - 1))
    return Speed(
        base_s=max(0.0, steps_s[0] - per_sequence_s),
        per_sequence_s=per_sequence_s,
        per_context_token_s=instance.kv_bytes_per_token / card.bytes_per_s,
        prefill_tokens_per_s=share * card.tensor_flops / (2.0 * weights),
        decode_curve=curve,
    )


def reached_bandwidth(hardware: Hardware, instance: ModelInstance) -> float:
    """Bytes a second that decoding reads, of the devices that read together."""
    chip = _chip(hardware, instance)
    return _constants(hardware, chip).efficiency * _bandwidth(hardware, chip, _together(hardware, instance))


def _chip(hardware: Hardware, instance: ModelInstance) -> Chip | None:
    """Of unlike cards by how they share the model."""
    return chip_of(hardware) if _llama_cpp(instance) else slowest_of(hardware)


def _llama_cpp(instance: ModelInstance) -> bool:
    return instance.format == "gguf"


def _packed(instance: ModelInstance) -> bool:
    """Whether weights are fewer than 16 bits; by their size where the format is not known."""
    known = find_format(instance.quantization)
    if known is not None:
        return known.family is not Family.FULL
    return not instance.parameters or 8.0 * instance.weights_bytes / instance.parameters < 15.0


def _together(hardware: Hardware, instance: ModelInstance) -> int:
    """Devices at work at once: llama.cpp splits by layers and has them take turns, vLLM splits every layer."""
    return 1 if _llama_cpp(instance) else max(1, hardware.count)


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
    """Bytes one decode step reads of the weights: of a mixture of experts, the active share; of embeddings kept at 16
    bits beside quantized layers, the head's half: the others are looked up.
    """
    weights = float(instance.weights_bytes or UNKNOWN_WEIGHTS_BYTES)
    known = find_format(instance.quantization)
    if known is not None and known.keeps_embeddings and not _llama_cpp(instance):
        packed = known.bits_per_weight / 8
        kept = max(0.0, (weights - packed * instance.parameters) / (2.0 - packed))
        weights -= min(kept, 0.5 * weights)  # two bytes of half of them
    if instance.parameters and 0 < instance.active_parameters < instance.parameters:
        return weights * instance.active_parameters / instance.parameters
    return weights


def _compute_s(hardware: Hardware, chip: Chip | None, instance: ModelInstance) -> float:
    """Seconds of compute per token (two operations a weight); 0 where the compute is not known."""
    weights = instance.active_parameters or instance.parameters
    flops = chip.compute_flops * _together(hardware, instance) if chip else processor_flops(hardware)
    return 2.0 * weights / (COMPUTE_EFFICIENCY * flops) if flops and weights else 0.0
