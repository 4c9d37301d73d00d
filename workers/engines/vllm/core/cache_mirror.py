"""Which of the router's text blocks lie in vLLM's prefix cache, by the KV-cache events it publishes. Pure.

The router counts in blocks of text, vLLM in blocks of tokens. A text block lies in the token block in which it ends,
taking a prompt's bytes to be spread evenly over its tokens; it is resident while that token block is. A token block
is known by a chained digest of its tokens, computed the same way for prompts and for events.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MAX_BLOCKS = 65_536
"""Token blocks whose text is remembered; the oldest is forgotten first."""

Digest = bytes


def chain(tokens: Sequence[int], block_tokens: int, before: Digest = b"") -> list[Digest]:
    """Digests of the whole blocks of ``tokens``, each covering everything before it."""
    found = []
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        digest = hashlib.blake2b(before, digest_size=16)
        for token in tokens[start : start + block_tokens]:
            digest.update(token.to_bytes(4, "little"))
        before = digest.digest()
        found.append(before)
    return found


@dataclass(slots=True)
class CacheMirror:
    """Follows one engine's prefix cache."""

    block_tokens: int
    _texts: OrderedDict[Digest, list[int]] = field(default_factory=OrderedDict)  # text blocks that end there
    _home: dict[int, Digest] = field(default_factory=dict)  # of each text block
    _resident: dict[Digest, int] = field(default_factory=dict)  # how often it is stored
    _names: dict[object, Digest] = field(default_factory=dict)  # the engine's name of a block
    _stored: list[int] = field(default_factory=list)
    _evicted: list[int] = field(default_factory=list)

    def prompt(self, tokens: Sequence[int], text_blocks: Sequence[int], text_bytes: int, block_bytes: int) -> None:
        """A job came: ``text_blocks`` are the hashes of its first whole ``block_bytes`` of ``text_bytes``."""
        if not text_blocks or text_bytes <= 0:
            return
        digests = chain(tokens, self.block_tokens)
        for number, text in enumerate(text_blocks, start=1):
            end = min(number * block_bytes / text_bytes, 1.0) * len(tokens)
            at = max(int(-(-end // self.block_tokens)) - 1, 0)
            if at >= len(digests):
                break
            if text not in self._home:
                self._attach(text, digests[at])

    def _attach(self, text: int, digest: Digest) -> None:
        self._home[text] = digest
        self._texts.setdefault(digest, []).append(text)
        if digest in self._resident:
            self._stored.append(text)
        while len(self._texts) > MAX_BLOCKS:
            forgotten, texts = self._texts.popitem(last=False)
            for one in texts:
                del self._home[one]
            if forgotten in self._resident:
                self._evicted += texts

    def stored(self, names: Sequence[object], parent: object | None, tokens: Sequence[int]) -> None:
        """The engine stored these blocks, one behind the other."""
        before = self._names.get(parent, b"") if parent is not None else b""
        if parent is not None and not before:
            return  # of a chain whose beginning was missed
        for name, digest in zip(names, chain(tokens, self.block_tokens, before), strict=False):
            if name in self._names:
                continue
            self._names[name] = digest
            self._resident[digest] = self._resident.get(digest, 0) + 1
            if self._resident[digest] == 1:
                self._stored += self._texts.get(digest, ())

    def removed(self, names: Iterable[object]) -> None:
        """The engine gave these blocks' memory away."""
        for name in names:
            digest = self._names.pop(name, None)
            if digest is None:
                continue
            self._resident[digest] -= 1
            if not self._resident[digest]:
                del self._resident[digest]
                self._evicted += self._texts.get(digest, ())

    def cleared(self) -> None:
        """The engine emptied its cache."""
        for digest in self._resident:
            self._evicted += self._texts.get(digest, ())
        self._resident.clear()
        self._names.clear()

    def take(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(stored, evicted) since the last call."""
        changes = tuple(self._stored), tuple(self._evicted)
        self._stored.clear()
        self._evicted.clear()
        return changes
