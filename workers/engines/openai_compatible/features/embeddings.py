"""Vectors as ``/v1/embeddings`` gives them."""

import math
from typing import Any

from protos.contract.request import EmbeddingInputs
from workers.engines.base import Embedded

MAX_BYTES = 64 * 2**20
"""Of an answer: 512 vectors of 4,096 numbers, written out."""


def embedding_body(asked: EmbeddingInputs, model: str) -> dict[str, Any]:
    """The request; dimensions are cut here, as many servers do not know the parameter."""
    return {
        "model": model,
        "input": [one if isinstance(one, str) else list(one) for one in asked.inputs],
        "encoding_format": "float",
    }


def embedded(body: Any, asked: EmbeddingInputs) -> Embedded | None:
    """The vectors in the order of the inputs, at unit length; None for an answer that has not one for each."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or len(data) != len(asked.inputs):
        return None
    try:
        ordered = sorted(data, key=lambda one: int(one["index"]))
        vectors = tuple(_unit([float(x) for x in one["embedding"]], asked.dimensions) for one in ordered)
    except (TypeError, ValueError, KeyError):
        return None
    usage = body.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Embedded(vectors=vectors, prompt_tokens=counted if type(counted) is int and counted >= 0 else 0)


def _unit(values: list[float], dimensions: int) -> tuple[float, ...]:
    cut = values[: dimensions or len(values)]
    length = math.sqrt(sum(one * one for one in cut))
    return tuple(one / length for one in cut) if length > 0 else tuple(cut)
