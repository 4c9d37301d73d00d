"""One answer that is kept to a grammar: which tokens may come next."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

Mask = npt.NDArray[np.bool_]


class Constraint:
    """The state of one answer's grammar. Not thread-safe; ``look_ahead`` gives other threads their turn meanwhile."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._words = np.zeros((vocab_size + 31) // 32, dtype=np.int32)
        self._vocab_size = vocab_size
        self._fresh = False  # ``_words`` are those of the present state

    def look_ahead(self) -> None:
        """Work out the next mask. Without the interpreter's lock, so that it can be done beside a step."""
        if not self._fresh:
            self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
            self._fresh = True

    def mask(self) -> Mask:
        """True for each token that may come next, the end of the answer among them; shape (vocab_size,)."""
        self.look_ahead()
        bits = np.unpackbits(self._words.view(np.uint8), count=self._vocab_size, bitorder="little")
        return bits.view(np.bool_)

    def accept(self, token: int) -> bool:
        """The answer goes on with this token; False when the grammar does not have it."""
        self._fresh = False
        return bool(self._matcher.consume_token(token))

    def fitting(self, tokens: Sequence[int]) -> int:
        """How many of these may come next, one after the other. The answer does not go on by it."""
        return int(self._matcher.validate_tokens(list(tokens))) if tokens else 0

    def replay(self, tokens: list[int]) -> bool:
        """The answer began with these; False when the grammar does not have them."""
        self._fresh = False
        return bool(self._matcher.consume_tokens(tokens)) if tokens else True

    @property
    def complete(self) -> bool:
        """Nothing can come any more: the answer ends here."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    @property
    def may_end(self) -> bool:
        """What there is so far is a whole answer."""
        return bool(self._matcher.is_accepting())

    @property
    def error(self) -> str:
        """Why it cannot be followed any further, in one line; empty: it can."""
        return " ".join(self._matcher.get_error().replace("<non-verbose/>", "").split()) if self._fails else ""

    @property
    def _fails(self) -> bool:
        return bool(self._matcher.is_error())
