"""What can be set when a GGUF model is loaded; every option has a default that is exact and safe."""

from dataclasses import dataclass

from workers.engines.base import ModelSpec
from workers.engines.option_values import option_values

DEFAULT_SLOTS = 8
DEFAULT_CONTEXT_TOKENS = 4096

LLAMA_THREADS = 1
"""Unless told otherwise: two processes with two each hold one another up at every step, and one makes greedy output the
same whatever else runs."""

PLATFORM_BYTES = 150 * 2**20
"""What llama.cpp takes beside weights, cache and logits (gguf-parser-go; FACTS, overheads)."""

EXACT_ROWS = 63
"""From 64 rows of one sequence on, ggml's flash attention on a CPU takes another kernel that rounds otherwise (its
GGML_FA_TILE_Q): how a prompt was cut into steps would show in the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one llama.cpp context.

    ``flash_attention`` on, ``kv_unified`` off, one thread and ``exact`` make greedy output independent of what else
    runs: a sequence's numbers are the same alone and among fifteen others, and after a move to another worker.
    """

    context_tokens: int = DEFAULT_CONTEXT_TOKENS  # of each sequence
    slots: int = DEFAULT_SLOTS
    threads: int = LLAMA_THREADS
    prefill_tokens: int = 128  # prompt tokens mixed into one step: an abort waits for at most one step
    exact: bool = True  # on a CPU, at most EXACT_ROWS of one prompt in a step; off: a quarter faster prefill
    flash_attention: bool = True
    kv_unified: bool = False
    gpu_layers: int = -1  # all that fit, where there is a GPU
    queue_limit: int = 256  # jobs that may wait for a slot
    mmap: bool = True
    chat_template: str = ""  # path of a Jinja file instead of the model's own
    speculate: bool = True  # verify what the text itself proposes, where that is faster; the answer is the same

    def rows_of_one(self, *, on_gpu: bool) -> int:
        """Most prompt tokens of one sequence in a step. Kernels of GPUs promise nothing, so nothing is gained there."""
        return min(self.prefill_tokens, EXACT_ROWS) if self.exact and not on_gpu else self.prefill_tokens


def options_of(spec: ModelSpec) -> Options:
    """Options from a spec; raises LoadError naming an unknown option and the nearest valid one."""
    positive = ("context_tokens", "slots", "threads", "prefill_tokens", "queue_limit")
    return option_values(Options, spec, "llama.cpp", positive=positive)
