"""What can be set when a GGUF model is loaded; every option has a default that is exact and safe."""

import difflib
from dataclasses import dataclass, fields

from workers.engines.base import LoadError, ModelSpec

DEFAULT_SLOTS = 8
DEFAULT_CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one llama.cpp context.

    ``flash_attention`` on, ``kv_unified`` off and one thread make greedy output independent of what else runs:
    a sequence's numbers are the same alone and among fifteen others.
    """

    context_tokens: int = DEFAULT_CONTEXT_TOKENS  # of each sequence
    slots: int = DEFAULT_SLOTS
    threads: int = 1
    prefill_tokens: int = 128  # prompt tokens mixed into one step: an abort waits for at most one step
    flash_attention: bool = True
    kv_unified: bool = False
    gpu_layers: int = -1  # all that fit, where there is a GPU
    queue_limit: int = 256  # jobs that may wait for a slot
    mmap: bool = True


def options_of(spec: ModelSpec) -> Options:
    """Options from a spec; raises LoadError naming an unknown option and the nearest valid one."""
    known = {field.name: field for field in fields(Options)}
    values: dict[str, object] = {}
    for name, value in spec.options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"valid options: {', '.join(sorted(known))}"
            raise LoadError(f"llama.cpp engine: unknown option '{name}'; {hint}")
        kind = type(getattr(Options(), name))
        if not isinstance(value, kind):
            raise LoadError(f"llama.cpp engine: option '{name}' must be {kind.__name__}, not {value!r}")
        values[name] = value
    if spec.context_tokens:
        values["context_tokens"] = spec.context_tokens
    if spec.slots:
        values["slots"] = spec.slots
    options = Options(**values)  # type: ignore[arg-type]
    for name in ("context_tokens", "slots", "threads", "prefill_tokens", "queue_limit"):
        if getattr(options, name) < 1:
            raise LoadError(f"llama.cpp engine: option '{name}' must be at least 1, not {getattr(options, name)}")
    return options
