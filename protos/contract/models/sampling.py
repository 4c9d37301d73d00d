"""How a model's own file says it should be sampled: GGUF's ``general.sampling.*``, or ``generation_config.json``."""

from collections.abc import Mapping

from protos.contract.worker import SamplingDefaults

GGUF_NAMES: Mapping[str, str] = {
    "temperature": "general.sampling.temp",
    "top_p": "general.sampling.top_p",
    "top_k": "general.sampling.top_k",
    "min_p": "general.sampling.min_p",
    "repetition_penalty": "general.sampling.penalty_repeat",
}
HF_NAMES: Mapping[str, str] = {name: name for name in GGUF_NAMES}

_MOST: Mapping[str, float] = {
    "temperature": 5.0,
    "top_p": 1.0,
    "top_k": 2.0**31 - 1,
    "min_p": 1.0,
    "repetition_penalty": 10.0,
}
_ABOVE_ZERO = frozenset({"top_p", "repetition_penalty"})


def sampling_told(fields: Mapping[str, object], names: Mapping[str, str]) -> SamplingDefaults | None:
    """What ``fields`` say under these names; values nobody can sample with are passed over. None: nothing.

    ``do_sample`` false is no temperature of 0: it is transformers' habit, and its files have it beside a temperature.

    >>> sampling_told({"temperature": 0.6, "top_k": 20, "top_p": 7.0}, HF_NAMES)
    SamplingDefaults(temperature=0.6, top_p=None, top_k=20, min_p=None, repetition_penalty=None)
    """
    told = {name: _number(fields.get(key), name) for name, key in names.items()}
    if all(value is None for value in told.values()):
        return None
    top_k = told.pop("top_k")
    return SamplingDefaults(top_k=None if top_k is None else int(top_k), **told)


def _number(value: object, name: str) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if name == "top_k" and value == -1:
        return 0.0  # off, as 0
    believable = 0 <= value <= _MOST[name] and not (name in _ABOVE_ZERO and value == 0)
    return float(value) if believable else None
