"""AWQ's search: scale the input channels that activations make important, so that rounding hurts them less.

Scaling a layer's inputs by ``s`` and dividing what feeds it by ``s`` changes nothing but the rounding. The feeding
operation is a norm (for q, k, v and for gate, up) or another linear layer (up for down).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tests.support.awq.packing import LEVELS, Groups, quantize

STEPS = 20
"""Exponents tried: 0, 0.05 … 0.95 (the paper's grid)."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Linear layers that read the same input, and what feeds them; ``feeder`` None: nothing that could be scaled."""

    layers: tuple[str, ...]
    feeder: str | None


def sharings(layer: int) -> tuple[Sharing, ...]:
    """Of one decoder layer of the Llama architecture. Attention's output cannot be scaled: heads share values."""
    at = f"model.layers.{layer}"
    return (
        Sharing(tuple(f"{at}.self_attn.{one}_proj" for one in "qkv"), f"{at}.input_layernorm"),
        Sharing((f"{at}.self_attn.o_proj",), None),
        Sharing((f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj"), f"{at}.post_attention_layernorm"),
        Sharing((f"{at}.mlp.down_proj",), f"{at}.mlp.up_proj"),
    )


def rounded(weight: Any, group: int) -> Any:
    """The weight [outputs, inputs] after ``packing.quantize``; on tensors, because the search rounds often."""
    grouped = weight.view(len(weight), -1, group)
    most, least = grouped.amax(dim=2, keepdim=True).clamp(min=0.0), grouped.amin(dim=2, keepdim=True).clamp(max=0.0)
    scales = ((most - least) / LEVELS).clamp(min=1e-5).half().float()
    zeros = (-least / scales).round().clamp(0, LEVELS)
    codes = (grouped / scales).round().add_(zeros).clamp_(0, LEVELS)
    return codes.sub_(zeros).mul_(scales).view_as(weight)


def best_scales(weights: Sequence[Any], inputs: Any, group: int) -> Any:
    """Scales per input channel [inputs] that leave the least squared error of the layers' outputs."""
    importance = inputs.abs().mean(dim=0).clamp(min=1e-4)
    best, least = torch.ones_like(importance), float("inf")
    for step in range(STEPS):
        scales = importance.pow(step / STEPS)
        scales = scales / (scales.max() * scales.min()).sqrt()
        error = 0.0
        for weight in weights:
            lost = rounded(weight * scales, group).div_(scales).sub_(weight)
            error += float((inputs @ lost.T).pow_(2).mean())
        if error < least:
            best, least = scales, error
    return best


def quantize_layer(modules: dict[str, Any], inputs: dict[str, Any], layer: int, group: int) -> dict[str, Groups]:
    """Scale and quantize one decoder layer in place; returns the groups of each linear layer by its name.

    ``inputs``: activations [tokens, channels] that each linear layer read during calibration.
    """
    for sharing in sharings(layer):
        if sharing.feeder is None:
            continue
        read = inputs[sharing.layers[0]]
        scales = best_scales([modules[name].weight.data for name in sharing.layers], read, group)
        feeder = modules[sharing.feeder].weight.data
        feeder.div_(scales if feeder.dim() == 1 else scales[:, None])
        for name in sharing.layers:
            modules[name].weight.data.mul_(scales)
    found: dict[str, Groups] = {}
    for name in (name for sharing in sharings(layer) for name in sharing.layers):
        found[name] = quantize(modules[name].weight.data.numpy(), group)
        modules[name].weight.data.copy_(torch.from_numpy(found[name].weights()))
    return found
