"""What a quantization costs in quality: tabulated where it was measured, by bits elsewhere. Pure.

The loss is relative perplexity against full precision. A measured ratio for the model at hand replaces it.
"""

import math

MEASURED_70B: dict[str, float] = {
    "fp32": 0.0,
    "bf16": 0.0,
    "fp16": 0.0,
    "awq": 4.28 / 4.12 - 1,
    "gptq": 4.31 / 4.12 - 1,
    "q4_k_m": 4.38 / 4.12 - 1,
    "q2_k": 5.87 / 4.12 - 1,
}
"""Llama 3.3 70B, perplexity against fp16's 4.12 (FACTS.md, "Quality")."""

BITS_PER_WEIGHT: dict[str, float] = {
    "iq1_s": 2.004, "iq1_m": 2.146, "iq2_xxs": 2.382, "iq2_xs": 2.588, "iq2_s": 2.740, "iq2_m": 2.929,
    "q2_k_s": 2.970, "q2_k": 3.159, "iq3_xxs": 3.255, "iq3_xs": 3.498, "q3_k_s": 3.643, "iq3_s": 3.661,
    "iq3_m": 3.763, "q3_k_m": 3.89, "q3_k_l": 4.298, "iq4_xs": 4.460, "q4_k_s": 4.667, "iq4_nl": 4.682,
    "q4_k_m": 4.894, "q5_k_s": 5.570, "q5_k_m": 5.704, "q6_k": 6.563, "q8_0": 8.501, "q4_0": 4.5, "q4_1": 5.0,
    "q5_0": 5.5, "q5_1": 6.0, "mxfp4": 4.25, "nf4": 4.13, "fp8": 8.0, "awq": 4.156, "gptq": 4.156, "fp16": 16.0,
    "bf16": 16.0, "fp32": 32.0, "int8": 8.0,
}  # fmt: skip
"""Whole-file bits per weight (FACTS.md; llama.cpp ``tools/quantize/README.md``); block figures for the legacy types."""

LEGACY_PENALTY = 1.6
"""Round-to-nearest types without k-quants' nested scales lose more at the same bits: q4_0 against q4_k_m at 135M
parameters, 24.5% against 7.4% (measured here), tempered towards larger models."""
_LEGACY = frozenset({"q4_0", "q4_1", "q5_0", "q5_1", "nf4", "mxfp4"})

_SLOPE = math.log(MEASURED_70B["q2_k"] / MEASURED_70B["q4_k_m"]) / (BITS_PER_WEIGHT["q4_k_m"] - BITS_PER_WEIGHT["q2_k"])
"""Loss falls by e to this per bit: the line through the two k-quants measured at 70B."""

SMALL_PARAMETERS = 7e9
SMALL_FACTOR = 1.5
"""Under 7B parameters, quantization loses more (FACTS.md, "Quality")."""


def loss(parameters: float, quantization: str) -> float:
    """Relative loss of perplexity against full precision, 0.01 is 1%; infinite for an unknown name."""
    known = _loss_70b(quantization)
    return known * SMALL_FACTOR if 0 < parameters < SMALL_PARAMETERS else known


def at_least(quantization: str, floor: str) -> bool:
    """``quantization`` loses no more than ``floor``; False when either name is unknown."""
    return math.isfinite(_loss_70b(floor)) and _loss_70b(quantization) <= _loss_70b(floor)


def known_names() -> tuple[str, ...]:
    """Every quantization with a figure, best first."""
    return tuple(sorted(BITS_PER_WEIGHT, key=_loss_70b))


def _loss_70b(quantization: str) -> float:
    tabulated = MEASURED_70B.get(quantization)
    if tabulated is not None:
        return tabulated
    bits = BITS_PER_WEIGHT.get(quantization)
    if bits is None:
        return math.inf
    by_bits = MEASURED_70B["q4_k_m"] * math.exp(_SLOPE * (BITS_PER_WEIGHT["q4_k_m"] - bits))
    return by_bits * LEGACY_PENALTY if quantization in _LEGACY else by_bits
