"""What is said of a model's memory before it is loaded is what llama.cpp allocates, for every kind of attention.

Files are real: small ones are made here, each with all tensors of its architecture, and loaded by llama.cpp.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from protos.contract.models.gguf.model import read_gguf
from protos.contract.models.kv_cache import llama_cpp_memory
from tests.support import tiny_models

llama_cpp = pytest.importorskip("llama_cpp")

from workers.engines.llama_cpp import native  # noqa: E402 - where llama.cpp is
from workers.engines.llama_cpp.options import Options  # noqa: E402

MIB = 2**20
KINDS: dict[str, Callable[[Path], Path]] = {
    "dense": tiny_models.dense,
    "mixture": tiny_models.mixture,
    "gemma3": tiny_models.sliding,
    "gpt-oss": tiny_models.alternating,
    "deepseek2 with mla keys": tiny_models.latent,
    "deepseek2 without": partial(tiny_models.latent, by_mla_keys=False),
    "lfm2": tiny_models.convolutions,
    "mamba": tiny_models.state_space,
    "qwen3next": tiny_models.linear,
}
ROUNDED = 0.005 + 1e-9
"""The log prints hundredths of a MiB."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """llama.cpp's own log."""
    lines: list[str] = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
        lambda _, text, __: lines.append(text.decode("utf-8", "replace"))
    )
    monkeypatch.setattr(native, "quieten_llama", lambda: None)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    yield lines
    from workers.models.smollm2 import quieten_llama

    quieten_llama()


def allocated(said: list[str], what: str) -> float:
    """MiB in all buffers of a kind."""
    found = re.findall(rf"{what} buffer size = +([\d.]+) MiB", "".join(said))
    return sum(map(float, found))


def load(path: Path, options: Options) -> None:
    native.NativeModel(path, options, lambda _: None).close()


@pytest.mark.parametrize("options", [
    Options(context_tokens=32768, slots=2),
    Options(context_tokens=5000, slots=3, prefill_tokens=512),
    Options(context_tokens=100, slots=8, prefill_tokens=64),
], ids=["long", "odd", "short"])  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_is_what_is_allocated(kind: str, options: Options, tmp_path: Path, said: list[str]) -> None:
    """The cache to the last hundredth that is told; buffers never less, and at most a MiB or a tenth more."""
    path = KINDS[kind](tmp_path)
    reckoned = llama_cpp_memory(
        read_gguf(path), options.context_tokens, sequences=options.slots, chunk=options.prefill_tokens
    )
    load(path, options)
    caches = len(re.findall(r"(?:KV|RS) buffer size", "".join(said)))
    cache = allocated(said, "KV") + allocated(said, "RS")
    assert reckoned.cache / MIB == pytest.approx(cache, abs=caches * ROUNDED)
    buffers = allocated(said, "compute") + allocated(said, "output")
    assert buffers - 0.5 <= reckoned.buffers / MIB <= 1.1 * buffers + 1.0
    assert reckoned.weights / MIB == pytest.approx(allocated(said, r"CPU_Mapped model"), abs=0.1)


@pytest.mark.model
@pytest.mark.parametrize("name", ["q8_0", "q4_k_m"])
def test_a_real_model_takes_what_is_said(name: str, model_files: dict[str, Path], said: list[str]) -> None:
    """SmolLM2, with a vocabulary that makes logits the largest part of a step."""
    options = Options(context_tokens=2048, slots=8)
    shape = read_gguf(model_files[name])
    reckoned = llama_cpp_memory(shape, 2048, sequences=8, chunk=options.prefill_tokens)
    load(model_files[name], options)
    assert reckoned.cache / MIB == pytest.approx(allocated(said, "KV"), abs=ROUNDED)
    buffers = allocated(said, "compute") + allocated(said, "output")
    assert buffers <= reckoned.buffers / MIB <= 1.1 * buffers


@pytest.mark.parametrize("kind", KINDS)
def test_trying_threads_leaves_nothing_in_the_cache(kind: str, tmp_path: Path) -> None:
    """Timed on an empty sequence, which is empty again afterwards, also where memory is a state."""
    model = native.NativeModel(KINDS[kind](tmp_path), Options(context_tokens=256, slots=1), lambda _: None)
    try:
        assert model.time_threads(1) > 0
        assert llama_cpp.llama_memory_seq_pos_max(llama_cpp.llama_get_memory(model._context), 0) == -1
    finally:
        model.close()
