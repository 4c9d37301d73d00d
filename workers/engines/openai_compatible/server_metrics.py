"""What servers tell of their own load in Prometheus' text form: vLLM, SGLang, llama-server. Pure."""

import math
import re
from dataclasses import dataclass

from workers.engines.openai_compatible.requests import Flavor

_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})? (\S+)", re.MULTILINE)
_MODEL = re.compile(r'(?:^|,)model_name="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLoad:
    """One model's load by the server's own count, whoever sent the requests."""

    running: int
    waiting: int
    kv_used: float = 0.0  # 0..1

    def without(self, mine: int) -> "ServerLoad":
        """What others have there, when ``mine`` requests are this engine's. Those waiting are taken for theirs last.

        >>> ServerLoad(running=8, waiting=4).without(mine=10)
        ServerLoad(running=0, waiting=2, kv_used=0.0)
        """
        others = max(0, self.running + self.waiting - mine)
        waiting = min(self.waiting, others)
        return ServerLoad(running=others - waiting, waiting=waiting, kv_used=self.kv_used)


_NAMES: dict[Flavor, tuple[str, str, tuple[str, ...]]] = {
    Flavor.VLLM: (
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    Flavor.SGLANG: ("sglang:num_running_reqs", "sglang:num_queue_reqs", ("sglang:token_usage",)),
    Flavor.LLAMA_SERVER: (
        "llamacpp:requests_processing",
        "llamacpp:requests_deferred",
        ("llamacpp:kv_cache_usage_ratio",),
    ),
}
"""By each server's documents: running, waiting, share of the KV cache in use (vLLM renamed its own in 0.10)."""


def tells(flavor: Flavor) -> bool:
    """Whether there is anything to ask."""
    return flavor in _NAMES


def load_told(text: str, flavor: Flavor, model: str) -> ServerLoad | None:
    """The model's load; None where the page has no such figures.

    >>> load_told('vllm:num_requests_running{model_name="m"} 3.0', Flavor.VLLM, "m")
    ServerLoad(running=3, waiting=0, kv_used=0.0)
    """
    if flavor not in _NAMES:
        return None
    running, waiting, used = _NAMES[flavor]
    sums: dict[str, float] = {}
    for name, labels, number in _LINE.findall(text):
        named = _MODEL.search(labels)
        value = _number(number)
        if value is not None and (named is None or named[1] == model):
            sums[name] = sums.get(name, 0.0) + value  # one line a data-parallel engine
    if running not in sums:
        return None
    kv_used = next((sums[one] for one in used if one in sums), 0.0)
    return ServerLoad(
        running=int(sums[running]), waiting=int(sums.get(waiting, 0.0)), kv_used=min(1.0, max(0.0, kv_used))
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and 0 <= value < 2**31 else None
