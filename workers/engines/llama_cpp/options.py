"""What can be set when a GGUF model is loaded, and what machine and model decide where nobody says. Pure."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from protos.contract.models.kv_cache import KV_BYTES, chunk_tokens, llama_cpp_memory
from protos.contract.models.model_shape import ModelShape
from protos.contract.worker import Hardware
from workers.engines.base import LoadError, ModelSpec
from workers.engines.option_values import option_values

DEFAULT_SLOTS = 8
"""Sequences on a processor, a small GPU and wherever memory is not known. Each adds its compute there."""
DEFAULT_CONTEXT_TOKENS = 4096

MOST_THREADS = 256
"""Unless told otherwise all physical cores compute, shared among the workers of a machine."""
GPU_THREADS = 4
"""Of the processor, where all layers lie on a GPU: it only hands out work."""

TRIED_FROM = 4
"""Threads from which on fewer are tried when a model is loaded; it takes a dozen steps."""
WORTH = 0.05

GPU_SLOTS = (64, 32, 16)
"""Tried in turn on NVIDIA's and AMD's cards: reading the weights serves all of them at once (8B Q4_K_M on an H100: 906
tokens/s with 8 sequences, 4,074 with 64; FACTS.md)."""
ROOM_SHARE = 0.5
"""Of the memory left beside the weights that more than DEFAULT_SLOTS may take: other models want some too."""

PLATFORM_BYTES = 150 * 2**20
"""What llama.cpp takes beside weights, cache and logits (gguf-parser-go; FACTS, overheads)."""
GPU_PLATFORM_BYTES = 250 * 2**20
"""The same on a GPU."""

EXACT_ROWS = 63
"""From 64 rows of one sequence on, ggml's flash attention on a CPU takes another kernel that rounds otherwise (its
GGML_FA_TILE_Q): how a prompt was cut into steps would show in the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one llama.cpp context. ``by_device`` replaces those that nobody set.

    ``exact`` makes greedy output of some formats independent of what else runs, on a CPU: see this package's README for
    what holds where. It needs ``flash_attention`` on and ``kv_unified`` off.
    """

    context_tokens: int = DEFAULT_CONTEXT_TOKENS  # of each sequence
    slots: int = DEFAULT_SLOTS
    threads: int = 1
    share_cores: bool = False  # threads are the most: how many it is follows from this machine's other workers
    prefill_tokens: int = 128  # prompt tokens mixed into one step: an abort waits for at most one step
    exact: bool = False  # on a CPU, at most EXACT_ROWS of one prompt in a step: a quarter slower prefill
    flash_attention: bool = True  # on a GPU where its kernels can
    kv_type: str = "f16"  # of the KV cache: f16, q8_0, q4_0
    kv_unified: bool = False
    gpu_layers: int = -1  # all that fit, where there is a GPU
    queue_limit: int = 256  # jobs that may wait for a slot
    mmap: bool = True
    chat_template: str = ""  # path of a Jinja file instead of the model's own
    draft_model: str = ""  # path of a small GGUF model of the same tokenizer, that proposes in this process
    draft_length: int = 0  # tokens of a draft model verified each round, paying or not; 0: as many as pay
    speculate: bool = True  # verify what the text itself proposes, where that is faster; the answer is the same

    def rows_of_one(self, *, on_gpu: bool) -> int:
        """Most prompt tokens of one sequence in a step. Kernels of GPUs promise nothing, so nothing is gained there."""
        return min(self.prefill_tokens, EXACT_ROWS) if self.exact and not on_gpu else self.prefill_tokens

    def __str__(self) -> str:
        """For people: what was chosen."""
        threads = f"up to {self.threads} threads" if self.share_cores else f"{self.threads} threads"
        return (
            f"{self.slots} slots of {self.context_tokens} tokens, chunks of {self.prefill_tokens}, {threads}, "
            f"KV cache {self.kv_type}" + (", exact" if self.exact else "")
        )


def options_of(spec: ModelSpec) -> Options:
    """Options from a spec; raises LoadError naming an unknown option and the nearest valid one."""
    positive = ("context_tokens", "slots", "threads", "prefill_tokens", "queue_limit")
    options = option_values(Options, spec, "llama.cpp", positive=positive)
    if options.kv_type not in ("f16", "q8_0", "q4_0"):
        known = ", ".join(one for one in KV_BYTES if one != "fp8")
        raise LoadError(f"llama.cpp engine: option 'kv_type' must be one of {known}, not {options.kv_type!r}")
    if options.kv_type != "f16" and not options.flash_attention:
        raise LoadError("llama.cpp engine: a quantized KV cache needs flash_attention")
    return options


def told_by(spec: ModelSpec) -> frozenset[str]:
    """What somebody set."""
    counts = [name for name, value in (("slots", spec.slots), ("context_tokens", spec.context_tokens)) if value]
    return frozenset((*spec.options, *counts))


def by_device(
    options: Options, told: Collection[str], shape: ModelShape, hardware: Hardware, *, usable_bytes: int, cores: int
) -> Options:
    """With what nobody told chosen for this machine and model.

    ``usable_bytes``: of the memory it computes in; 0: not known. ``cores``: that a processor computes on.
    """
    chosen = options
    on_gpu = hardware.kind != "cpu"
    if "prefill_tokens" not in told:
        chosen = replace(chosen, prefill_tokens=chunk_tokens(hardware.kind))
    if "threads" not in told:
        whole = on_gpu and options.gpu_layers < 0
        chosen = replace(chosen, threads=max(1, min(cores, GPU_THREADS if whole else MOST_THREADS)))
    if "slots" not in told:
        chosen = replace(chosen, slots=_slots(chosen, shape, hardware, usable_bytes))
    if "kv_type" not in told and chosen.flash_attention and usable_bytes:
        smaller = replace(chosen, kv_type="q8_0")
        if _needs(chosen, shape, on_gpu) > usable_bytes >= _needs(smaller, shape, on_gpu):
            chosen = smaller  # next to no loss, where it would not run otherwise
    return chosen


def worth_threads(most: int, step_s: Callable[[int], float]) -> int:
    """How many of up to ``most`` threads decode fastest: all, three quarters or half of them. Fewer are taken where
    they are faster by WORTH: slow cores beside fast ones hold a step up, and a full memory bus gains nothing by more.

    ``step_s``: seconds of a step with so many.
    """
    best, best_s = most, step_s(most)
    for fewer in dict.fromkeys((3 * most // 4, most // 2)):
        took_s = step_s(fewer)
        if took_s < best_s * (1.0 - WORTH):
            best, best_s = fewer, took_s
    return best


def _slots(options: Options, shape: ModelShape, hardware: Hardware, usable_bytes: int) -> int:
    """As many as the device makes use of, while there is room; fewer than the usual where memory is short."""
    if not usable_bytes:
        return DEFAULT_SLOTS
    on_gpu = hardware.kind != "cpu"
    large = GPU_SLOTS if hardware.kind in ("nvidia", "amd") else ()
    room = ROOM_SHARE * (usable_bytes - shape.weights_bytes)
    for slots in large:
        if _needs(replace(options, slots=slots), shape, on_gpu) - shape.weights_bytes <= room:
            return slots
    fitting = (
        slots for slots in (DEFAULT_SLOTS, 4, 2) if _needs(replace(options, slots=slots), shape, on_gpu) <= usable_bytes
    )
    return next(fitting, 1)


def _needs(options: Options, shape: ModelShape, on_gpu: bool) -> float:
    taken = llama_cpp_memory(
        shape, options.context_tokens, sequences=options.slots, chunk=options.prefill_tokens, kv_format=options.kv_type
    )
    return taken.total + (GPU_PLATFORM_BYTES if on_gpu else PLATFORM_BYTES)
