"""How long a context ``allsorts up`` serves: what the model was trained with, as far as this machine's memory goes."""

from collections.abc import Sequence
from pathlib import Path

import psutil

from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.model import read_gguf
from protos.contract.models.kv_cache import llama_cpp_memory
from router.errors import ConfigError

LEAST_TOKENS = 1024
PREFILL_TOKENS = 512
"""Of a step; what buffers are reckoned with."""


def trained_context(files: Sequence[Path], slots: int, usable_bytes: float | None = None) -> int:
    """Tokens of each of ``slots`` sequences, for workers that each serve one of ``files`` on this machine.

    Halved until all of them together take no more than half of ``usable_bytes`` (the memory that is free now): the
    machine is its user's, too. Raises ConfigError for a file that cannot be read.
    """
    try:
        shapes = [read_gguf(file) for file in files]
    except BadModelFile as error:
        raise ConfigError(f"{error.path}: {error.problem}; {error.remedy}") from None
    usable = float(psutil.virtual_memory().available) if usable_bytes is None else usable_bytes
    context = min((shape.context_tokens for shape in shapes if shape.context_tokens), default=LEAST_TOKENS)
    while context > LEAST_TOKENS:
        taken = sum(llama_cpp_memory(one, context, sequences=slots, chunk=PREFILL_TOKENS).total for one in shapes)
        if taken <= usable / 2:
            break
        context = max(context // 2, LEAST_TOKENS)
    return context
