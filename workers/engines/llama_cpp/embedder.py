"""The thread that embeds texts with a loaded model, beside the thread that generates: neither waits for the other.

Texts of all requests are packed into decodes in the order they came, so that many short ones cost few; a vector does
not depend on what it was packed with.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from workers.engines.base import EngineError, EngineFailed
from workers.engines.llama_cpp.native_embedding import SEQUENCES, NativeEmbedding, Vector, at_unit_length

Text = Sequence[int]
LEAST_TOKENS = 512
"""Of one decode, where the context allows: what a handful of short texts have together."""


@dataclass(slots=True)
class _Asked:
    """One request: its texts, and their vectors as far as they are there."""

    texts: Sequence[Text]
    future: "Future[list[Vector]]"
    vectors: list[Vector] = field(default_factory=list)
    given: int = 0  # texts handed to a decode


class Embedder:
    """``open_context`` makes the native part for a number of tokens. Starts with the first request."""

    def __init__(self, open_context: Callable[[int], NativeEmbedding], longest: int) -> None:
        self._open = open_context
        self._longest = longest
        self._wake = threading.Condition()
        self._asked: deque[_Asked] = deque()
        self._stopping = ""
        self._thread: threading.Thread | None = None
        self._native: NativeEmbedding | None = None

    @property
    def pending(self) -> tuple[int, int]:
        """Requests and tokens that wait or run."""
        with self._wake:
            asked = [one for one in self._asked if not one.future.cancelled()]
            return len(asked), sum(len(text) for one in asked for text in one.texts[len(one.vectors) :])

    def embed(self, texts: Sequence[Text]) -> "Future[list[Vector]]":
        """A vector for each, in their order. Raises EngineFailed once it stops. From any thread."""
        future: Future[list[Vector]] = Future()
        with self._wake:
            if self._stopping:
                raise EngineFailed(self._stopping)
            self._asked.append(_Asked(texts, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="llama.cpp embeddings", daemon=True)
                self._thread.start()
            self._wake.notify_all()
        return future

    def stop(self, reason: str) -> None:
        """End what waits, free the context. Blocks for at most a decode."""
        with self._wake:
            self._stopping = reason
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    # -- its thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                with self._wake:
                    self._drop_done()
                    while not (self._stopping or self._asked):
                        self._wake.wait()
                    if self._stopping:
                        return
                    packed = self._pack()
                if packed:
                    self._decode(packed)
        finally:
            self._end()

    def _pack(self) -> list[tuple[_Asked, Text]]:
        """The next texts that fit one decode: at least one, however long. With the lock held."""
        packed: list[tuple[_Asked, Text]] = []
        tokens, room = 0, self._room()
        for one in self._asked:
            if one.future.cancelled():
                continue
            for text in one.texts[one.given :]:
                if packed and (tokens + len(text) > room or len(packed) == SEQUENCES):
                    return packed
                packed.append((one, text))
                one.given += 1
                tokens += len(text)
                room = max(room, self._rounded(tokens))
        return packed

    def _room(self) -> int:
        return self._native.capacity if self._native is not None else min(LEAST_TOKENS, self._longest)

    def _rounded(self, tokens: int) -> int:
        """A power of two, so that ever longer texts do not each need a context of their own; at most the longest."""
        return min(max(1 << (tokens - 1).bit_length(), min(LEAST_TOKENS, self._longest)), self._longest)

    def _decode(self, packed: list[tuple[_Asked, Text]]) -> None:
        try:
            vectors = self._context(sum(len(text) for _, text in packed)).embed([text for _, text in packed])
        except EngineError as error:
            for one in {id(one): one for one, _ in packed}.values():
                if one.future.set_running_or_notify_cancel():
                    one.future.set_exception(error)
                one.given = len(one.texts)
                one.vectors = []
            return
        for (one, _), vector in zip(packed, vectors, strict=True):
            one.vectors.append(vector)
            if len(one.vectors) == len(one.texts) and one.future.set_running_or_notify_cancel():
                one.future.set_result(one.vectors)

    def _context(self, tokens: int) -> NativeEmbedding:
        """One that is large enough; the larger takes the smaller's place."""
        if self._native is None or self._native.capacity < tokens:
            if self._native is not None:
                self._native.close()
                self._native = None
            self._native = self._open(self._rounded(tokens))
        return self._native

    def _drop_done(self) -> None:
        self._asked = deque(one for one in self._asked if not one.future.done())

    def _end(self) -> None:
        with self._wake:
            self._stopping = self._stopping or "embedding failed"
            left = [one for one in self._asked if not one.future.done()]
            self._asked.clear()
        for one in left:
            if one.future.set_running_or_notify_cancel():
                one.future.set_exception(EngineFailed(self._stopping))
        if self._native is not None:
            self._native.close()


def shortened(vectors: Sequence[Vector], dimensions: int) -> tuple[tuple[float, ...], ...]:
    """The first so many dimensions, at unit length again; 0: all."""
    cut = [at_unit_length(vector[:dimensions]) if dimensions else vector for vector in vectors]
    return tuple(tuple(float(value) for value in np.asarray(vector)) for vector in cut)
