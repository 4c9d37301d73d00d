"""llama.cpp through its C API: a loaded model with one context that runs many sequences in one batch.

Everything that touches ctypes is here. Not thread-safe: one thread owns a ``NativeModel``.
"""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from workers.engines.base import EngineError, LoadError
from workers.engines.grammar.compiler import TokenTable
from workers.engines.llama_cpp.options import Options
from workers.engines.prompts import vocabulary_fingerprint
from workers.models.smollm2 import quieten_llama

Logits = npt.NDArray[np.float32]
_FLASH_AUTO, _FLASH_ON, _FLASH_OFF = -1, 1, 0
_KV_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0, "q4_0": llama_cpp.GGML_TYPE_Q4_0}


class NativeModel:
    """A model, its context and one reusable batch whose arrays are numpy's."""

    def __init__(self, path: Path, options: Options, progress: Callable[[float], None]) -> None:
        quieten_llama()
        llama_cpp.llama_backend_init()
        self.on_gpu = bool(options.gpu_layers and llama_cpp.llama_supports_gpu_offload())
        # What a step costs: on a processor this thread's own time; whoever else uses it is not taken for a cost.
        self.clock = time.perf_counter if self.on_gpu else time.thread_time
        self._model = self._load(path, options, progress)
        self.vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(self.vocab))
        self._context = self._open(path, options)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = TokenBatch(options.slots + options.prefill_tokens)
        self._pieces: dict[int, bytes] = {}
        self._ends: tuple[int, ...] | None = None
        self.can_roll_back = not (  # layers whose memory is a state, or a window that forgets, cannot take tokens back
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
            or llama_cpp.llama_model_n_swa(self._model) > 0
        )

    # -- loading ---------------------------------------------------------------------------------------

    def _load(self, path: Path, options: Options, progress: Callable[[float], None]) -> Any:
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = options.gpu_layers if options.gpu_layers >= 0 else 0x7FFFFFFF

        def report(fraction: float, _: Any) -> bool:
            progress(fraction)
            return True

        parameters.progress_callback = llama_cpp.llama_progress_callback(report)
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            raise LoadError(
                f"{path}: llama.cpp cannot load it (truncated, corrupt, of an unknown architecture or quantization, "
                "or larger than memory); download or convert it again, or choose a smaller quantization"
            )
        return model

    def _open(self, path: Path, options: Options) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = options.context_tokens * options.slots
        parameters.n_batch = options.slots + options.prefill_tokens
        parameters.n_ubatch = options.slots + options.prefill_tokens
        parameters.n_seq_max = options.slots
        parameters.n_threads = parameters.n_threads_batch = options.threads
        on = _FLASH_AUTO if self.on_gpu and options.kv_type == "f16" else _FLASH_ON
        parameters.flash_attn_type = on if options.flash_attention else _FLASH_OFF
        parameters.type_k = parameters.type_v = _KV_TYPES[options.kv_type]
        parameters.kv_unified = options.kv_unified
        parameters.no_perf = True
        context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not context:
            llama_cpp.llama_model_free(self._model)
            raise LoadError(
                f"{path}: no memory for {options.slots} sequences of {options.context_tokens} tokens; "
                "lower --slots or --context"
            )
        return context

    def use_threads(self, count: int) -> None:
        """So many compute from the next batch on."""
        llama_cpp.llama_set_n_threads(self._context, count, count)

    def close(self) -> None:
        """Free the context and the model."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = self._model = None

    @property
    def handle(self) -> Any:
        """llama.cpp's own, for further contexts over the same weights."""
        return self._model

    @property
    def vector_width(self) -> int:
        """Dimensions of an embedding."""
        return int(llama_cpp.llama_model_n_embd_out(self._model))

    @property
    def attention_heads(self) -> int:
        """In the layer that has most."""
        return int(llama_cpp.llama_model_n_head(self._model))

    # -- facts -----------------------------------------------------------------------------------------

    def meta(self, key: str) -> str:
        """One metadata value as text; empty when absent."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, size)
            if length < 0:
                return ""
            if length < size:
                return buffer.value.decode("utf-8", "replace")
            size = length + 1

    def tokenizer_fingerprint(self) -> str:
        """Hash of every token's text in order: equal exactly when token ids mean the same."""
        texts = (llama_cpp.llama_vocab_get_text(self.vocab, token) or b"" for token in range(self.vocab_size))
        return vocabulary_fingerprint(texts)

    # -- text ------------------------------------------------------------------------------------------

    def tokenize(self, text: str, *, special: bool, add_start: bool) -> list[int]:
        """Token ids of ``text``. ``special``: parse markers such as <|im_start|>; else they are plain text."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        tokens = (ctypes.c_int * size)()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, size, add_start, special)
        if count < 0:
            tokens = (ctypes.c_int * -count)()
            count = llama_cpp.llama_tokenize(self.vocab, data, len(data), tokens, -count, add_start, special)
        return list(tokens[:count])

    def piece(self, token: int) -> bytes:
        """Bytes of one token, as they appear in text; control tokens have none. Cached per token."""
        known = self._pieces.get(token)
        if known is None:
            buffer = ctypes.create_string_buffer(64)
            size = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, 64, 0, False)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = llama_cpp.llama_token_to_piece(self.vocab, token, buffer, -size, 0, False)
            known = self._pieces[token] = buffer.raw[:size]
        return known

    def marker(self, token: int) -> str:
        """The text of a special token, for the chat template."""
        return (llama_cpp.llama_vocab_get_text(self.vocab, token) or b"").decode() if token >= 0 else ""

    def ends_generation(self, token: int) -> bool:
        """Whether the token ends an answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocab, token))

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """All tokens that end an answer; end-of-sequence first."""
        if self._ends is None:
            others = [one for one in range(self.vocab_size) if one != self.end_token and self.ends_generation(one)]
            self._ends = (*((self.end_token,) if self.end_token >= 0 else ()), *others)
        return self._ends

    def token_table(self) -> TokenTable:
        """The vocabulary for grammars."""
        special = [one for one in range(self.vocab_size) if self._is_marker(one)]
        tokens = [self.piece(token) for token in range(self.vocab_size)]
        for token in special:
            tokens[token] = b"\xff" + (llama_cpp.llama_vocab_get_text(self.vocab, token) or b"")
        return TokenTable(
            tokens,
            end_tokens=self.end_tokens,
            start_token=self.start_token,
            special=special,
            tokenize=lambda text: self.tokenize(text, special=False, add_start=False),
        )

    @property
    def special_texts(self) -> tuple[str, ...]:
        """What ``tokenize`` takes for special tokens, when it may. Tokens that a user defined are found in any text."""
        control = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        found = (one for one in range(self.vocab_size) if llama_cpp.llama_vocab_get_attr(self.vocab, one) & control)
        return tuple(
            (llama_cpp.llama_vocab_get_text(self.vocab, one) or b"").decode("utf-8", "replace") for one in found
        )

    def _is_marker(self, token: int) -> bool:
        """Control tokens, and what has no text: no part of an answer."""
        attributes = llama_cpp.llama_vocab_get_attr(self.vocab, token)
        return bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL) or not self.piece(token)

    @property
    def start_token(self) -> int:
        """Begin-of-sequence, or -1."""
        return int(llama_cpp.llama_vocab_bos(self.vocab))

    @property
    def end_token(self) -> int:
        """End-of-sequence, or -1."""
        return int(llama_cpp.llama_vocab_eos(self.vocab))

    @property
    def adds_start(self) -> bool:
        """Whether plain text begins with the start token."""
        return bool(llama_cpp.llama_vocab_get_add_bos(self.vocab))

    # -- computing -------------------------------------------------------------------------------------

    def decode(self, tokens: list[int], positions: list[int], sequences: list[int], wanted: list[bool]) -> None:
        """Run one batch; logits of the ``wanted`` rows can then be read by their index in the batch."""
        status = llama_cpp.llama_decode(self._context, self._batch.fill(tokens, positions, sequences, wanted))
        if status != 0:
            raise EngineError(f"llama.cpp: decode of {len(tokens)} tokens failed with status {status}")

    def time_threads(self, count: int) -> float:
        """Seconds of a step of one row with so many threads, the best of three after one that warms up."""
        self.use_threads(count)
        return min([self.time_rows(1) for _ in range(4)][1:])

    def time_rows(self, rows: int) -> float:
        """Seconds of a step of so many rows of one sequence, each sampled from; the sequence is empty afterwards."""
        token = max(self.start_token, 0)
        started = self.clock()
        self.decode([token] * rows, list(range(rows)), [0] * rows, [True] * rows)
        self.logits(rows - 1)
        took = self.clock() - started
        self.trim(0, 0)
        return took

    def logits(self, index: int) -> Logits:
        """Logits of one row of the last batch: a view that the next decode overwrites. Shape (vocab_size,)."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocab_size,))

    # -- memory of sequences -----------------------------------------------------------------------------

    def trim(self, sequence: int, length: int) -> bool:
        """Keep the first ``length`` tokens of a sequence; False when this model's memory cannot be cut there."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1))

    def copy(self, source: int, target: int) -> None:
        """Copy a whole sequence. With separate streams a partial copy would abort the process: trim afterwards."""
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)


class TokenBatch:
    """A ``llama_batch`` over numpy arrays: filling it costs one assignment per array, not one call per token."""

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, dtype=np.int32)
        self._position = np.zeros(capacity, dtype=np.int32)
        self._count = np.ones(capacity, dtype=np.int32)
        self._sequence = np.zeros(capacity, dtype=np.int32)
        self._wanted = np.zeros(capacity, dtype=np.int8)
        address = self._sequence.ctypes.data
        self._sequence_pointers = (address + 4 * np.arange(capacity + 1)).astype(np.uintp)
        self._native = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, ctypes.c_int),
            embd=None,
            pos=_pointer(self._position, ctypes.c_int),
            n_seq_id=_pointer(self._count, ctypes.c_int),
            seq_id=ctypes.cast(self._sequence_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int))),
            logits=_pointer(self._wanted, ctypes.c_byte),
        )

    def fill(self, tokens: list[int], positions: list[int], sequences: list[int], wanted: list[bool]) -> Any:
        """The native batch; valid until it is filled again."""
        count = len(tokens)
        self._token[:count] = tokens
        self._position[:count] = positions
        self._sequence[:count] = sequences
        self._wanted[:count] = wanted
        self._native.n_tokens = count
        return self._native


def _pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
