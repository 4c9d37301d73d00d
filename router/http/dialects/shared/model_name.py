"""Model names as clients write them: ``name``, ``name@q8_0`` (that quantization only), ``name@>=q6_k`` (or better)."""

import re
from collections.abc import Mapping

from protos.contract.models.quantization import canonical, find_format, unknown_format
from router.domain.request import ModelRef
from router.errors import ConfigError, InvalidRequest

_NAME = re.compile(r"[^\s@\x00-\x1f\x7f][^@\x00-\x1f\x7f]{0,199}")
_QUANTIZATION = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,31}")


def parse_model(text: str) -> ModelRef:
    """Raises InvalidRequest naming ``model``.

    >>> parse_model("llama-3.1-8b@q8_0").pinned, parse_model("llama-3.1-8b@>=q6_k").floor
    ('q8_0', 'q6_k')
    """
    name, at, rule = text.partition("@")
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "Invalid model name: expected NAME, NAME@QUANTIZATION or NAME@>=QUANTIZATION", param="model"
        )
    if not at:
        return ModelRef(name=name)
    if rule.startswith(">="):
        return ModelRef(name=name, floor=parse_floor(rule[2:], param="model"))
    return ModelRef(name=name, pinned=parse_quantization(rule, param="model"))


def parse_quantization(text: str, *, param: str) -> str:
    """The canonical name; one that no table knows may still be what a worker calls its own. Raises InvalidRequest."""
    name = canonical(text)
    if not _QUANTIZATION.fullmatch(name):
        raise InvalidRequest(
            f"Invalid value for '{param}': a quantization is named like q8_0, q4_k_m, awq or fp16", param=param
        )
    return name


def parse_floor(text: str, *, param: str) -> str:
    """The canonical name of a quantization whose loss is known: nothing can be compared with another.

    Raises InvalidRequest naming ``param``, with near matches.
    """
    name = parse_quantization(text, param=param)
    if find_format(name) is None:
        raise InvalidRequest(f"Invalid value for '{param}': {unknown_format(text.strip())}", param=param)
    return name


def default_floors(configured: Mapping[str, str]) -> dict[str, str]:
    """Canonical floors by model. Raises ConfigError naming the model whose floor nothing can be compared with."""
    floors = {}
    for model, text in configured.items():
        try:
            floors[model] = parse_floor(text, param="floor")
        except InvalidRequest as error:
            raise ConfigError(f"http.quality_floors, model '{model}': {error.message}") from None
    return floors
