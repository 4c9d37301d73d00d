"""Vectors of texts through llama.cpp's C API: a context of its own over a model's weights, which pools each sequence.

Not thread-safe: one thread owns a ``NativeEmbedding``; the model's own thread may decode meanwhile.
"""

from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from workers.engines.base import EngineError
from workers.engines.llama_cpp.native import NativeModel, TokenBatch
from workers.engines.llama_cpp.options import Options

Vector = npt.NDArray[np.float32]

SEQUENCES = 16
"""Texts of one decode at most."""

_POOLED = (1, 2, 3)  # mean, first token, last token: what llama.cpp calls LLAMA_POOLING_TYPE_MEAN, _CLS and _LAST
_MEAN = 1
_FLASH_ON, _FLASH_OFF = 1, 0
PLAIN_ATTENTION_BYTES = 256 * 2**20
"""Of attention scores held at once. Below it they are computed plainly, which rounds less: of short texts, flash
attention's vectors have a cosine of 0.9996 with those (135M parameters, q8_0). Beyond it they would cost too much.
"""


class NativeEmbedding:
    """``capacity``: tokens of one decode. A pooled sequence must lie in one decode, so it is the longest text, too."""

    def __init__(self, model: NativeModel, options: Options, capacity: int) -> None:
        self.capacity = capacity
        self._context = self._open(model, options, pooling=None)
        if llama_cpp.llama_pooling_type(self._context) not in _POOLED:
            llama_cpp.llama_free(self._context)  # the file names no way, or ranks: the mean of all tokens counts
            self._context = self._open(model, options, pooling=_MEAN)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = TokenBatch(capacity)
        self._width = model.vector_width

    def _open(self, model: NativeModel, options: Options, *, pooling: int | None) -> Any:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self.capacity
        parameters.n_seq_max = SEQUENCES
        parameters.kv_unified = True  # else sequences of unlike length fall into several decodes
        parameters.n_threads = parameters.n_threads_batch = options.threads
        large = 4 * model.attention_heads * self.capacity**2 > PLAIN_ATTENTION_BYTES
        parameters.flash_attn_type = _FLASH_ON if options.flash_attention and large else _FLASH_OFF
        parameters.embeddings = True
        parameters.no_perf = True
        if pooling is not None:
            parameters.pooling_type = pooling
        context = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not context:
            raise EngineError(f"llama.cpp: no memory for embeddings of {self.capacity} tokens; send shorter texts")
        return context

    def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        """A vector for each text of token ids, at unit length; at most ``SEQUENCES`` texts, ``capacity`` tokens."""
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, True)
        tokens = [token for text in texts for token in text]
        positions = [position for text in texts for position in range(len(text))]
        sequences = [number for number, text in enumerate(texts) for _ in text]
        status = llama_cpp.llama_decode(
            self._context, self._batch.fill(tokens, positions, sequences, [True] * len(tokens))
        )
        if status != 0:
            raise EngineError(f"llama.cpp: embedding {len(tokens)} tokens failed with status {status}")
        return [self._vector(number) for number in range(len(texts))]

    def _vector(self, sequence: int) -> Vector:
        pointer = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
        if not pointer:
            raise EngineError("llama.cpp: this model gave no embedding")
        return at_unit_length(np.ctypeslib.as_array(pointer, shape=(self._width,)))

    def close(self) -> None:
        """Free the context; the model goes on."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None


def at_unit_length(vector: Vector) -> Vector:
    """A copy with the Euclidean length 1; nothing but zeros stays as it is."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)
