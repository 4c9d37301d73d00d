"""llama.cpp before it is loaded: GGUF files, wherever its build computes."""

import re
from collections.abc import Iterator
from pathlib import Path

from protos.contract.models.gguf.model import stated_quantization
from protos.contract.models.instance import instance_of
from protos.contract.models.kv_cache import CHUNK_TOKENS, CPU_CHUNK_TOKENS, llama_cpp_memory
from protos.contract.worker import ModelInstance
from workers.engines.llama_cpp.model_file import read_model
from workers.engines.llama_cpp.options import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_SLOTS,
    MOST_THREADS,
    PLATFORM_BYTES,
)
from workers.engines.spec import EngineSpec

MAX_FILES = 10_000

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")
"""Of a model split over several files: llama.cpp is given the first."""


def offloads_to_gpu() -> bool:
    """Whether the installed build computes on a GPU; true when that cannot be told."""
    try:
        import llama_cpp

        return bool(llama_cpp.llama_supports_gpu_offload())
    except (ImportError, OSError, AttributeError):
        return True


class LlamaCpp(EngineSpec):
    """GGUF files through llama.cpp's C API."""

    name = "llama.cpp"
    serves = "GGUF files"
    factory = "workers.engines.llama_cpp.engine:LlamaCppEngine"
    draft_factory = "workers.engines.llama_cpp.drafting.engine:LlamaCppDrafts"
    extra = "llama"
    module = "llama_cpp"
    model_files = "*.gguf"
    default_threads = MOST_THREADS
    capped_slots = DEFAULT_SLOTS

    @property
    def installation(self) -> str:
        """Built for this machine's hardware; pip alone would build for its processor."""
        return "allsorts engine install llama.cpp"

    def accelerates(self) -> bool:
        """By its build."""
        return offloads_to_gpu()

    def check(self, path: str) -> None:
        """The header can be read."""
        read_model(Path(path))

    def find_models(self, folder: Path) -> Iterator[Path]:
        """GGUF files; of a split model the first part."""
        found = 0
        for path in folder.rglob("*.gguf"):
            if path.is_file() and not _LATER_PART.search(path.name):
                yield path
                found += 1
            if found >= MAX_FILES:
                return

    def memory_bytes(self, path: Path, context_tokens: int, slots: int) -> int:
        """By the reckoning that is checked before it is loaded."""
        taken = llama_cpp_memory(
            read_model(path),
            context_tokens or DEFAULT_CONTEXT_TOKENS,
            sequences=slots or DEFAULT_SLOTS,
            chunk=CHUNK_TOKENS if offloads_to_gpu() else CPU_CHUNK_TOKENS,
        )
        return round(taken.total) + PLATFORM_BYTES

    def quantization_of(self, path: Path) -> str:
        """By the header, or by the name of a file whose header cannot be read."""
        return stated_quantization(path)

    def read_model(self, path: Path) -> ModelInstance:
        """What the header tells."""
        return instance_of(read_model(path), model=path.stem, file_format="gguf", file=path.name)
