"""What a quantization costs in quality: tabulated where it was measured, by bits elsewhere. Pure.

Names may be written in any of the ways ``quantization`` knows. The loss is relative perplexity against full precision.
A measured ratio for the model at hand replaces it.
"""

import math

from protos.contract.models.quantization import BY_NAME, FORMATS, Family, canonical

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

BITS_PER_WEIGHT: dict[str, float] = {one.name: one.bits_per_weight for one in FORMATS}
"""By canonical name; sources in ``protos.contract.models.quantization``."""

LEGACY_PENALTY = 1.6
"""Round-to-nearest types without k-quants' nested scales lose more at the same bits: q4_0 against q4_k_m at 135M
parameters, 24.5% against 7.4% (measured here), tempered towards larger models."""
_LEGACY = frozenset({Family.LEGACY, Family.NF4, Family.MXFP4})

_EIGHT_BIT = frozenset({"fp8", "int8", "gptq-int8"})
"""They differ from q8_0 by less than evaluations scatter: one floor stands for all of them."""

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


def _loss_70b(quantization: str) -> float:
    name = canonical(quantization)
    tabulated = MEASURED_70B.get(name)
    if tabulated is not None:
        return tabulated
    known = BY_NAME.get("q8_0" if name in _EIGHT_BIT else name)
    if known is None:
        return math.inf
    by_bits = MEASURED_70B["q4_k_m"] * math.exp(_SLOPE * (BITS_PER_WEIGHT["q4_k_m"] - known.bits_per_weight))
    return by_bits * LEGACY_PENALTY if known.family in _LEGACY else by_bits
