"""How many tokens a prompt will have, guessed from its bytes: the router has no tokenizer.

The guess is calibrated by what workers then counted, for each model, kind and size of text on its own: a hundred bytes
of digits say nothing of ten pages of prose. A worker that measured its tokenizer on text says so in its profile; until
either is known, each kind has a usual ratio. A guess prices a placement and never refuses anybody: see ``Demand``.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from router.domain.snapshot import FleetSnapshot

MESSAGE_TOKENS = 5.0
"""What a chat template adds per message: role and separators (ChatML adds about five)."""

WEIGHT = 0.1
"""Of a new observation: settles within some tens of requests, forgets a changed workload as fast."""

SHORTEST_BYTES = 64
"""Shorter prompts are mostly template: they would teach the wrong ratio."""

MAX_TOKENS_PER_BYTE = 1.0
"""A token has at least a byte. A worker that counts more is wrong, and one worker's word must not make every client's
prompts of a shared model look too long.
"""

CAPACITY = 1024
SAMPLED_BYTES = 16 * 1024
"""Of each end of a long text: enough to tell its kind, and 8 MiB of it do not hold up the event loop."""


class TextKind(StrEnum):
    """What a text is made of, as far as it matters to tokenizers."""

    PROSE = "prose"
    CODE = "code"
    DIGITS = "digits"
    FOREIGN = "foreign"  # mostly beyond ASCII


TOKENS_PER_BYTE: Mapping[TextKind, float] = {
    TextKind.PROSE: 0.25,  # four bytes a token, as English has them
    TextKind.CODE: 0.35,
    TextKind.DIGITS: 0.7,  # many tokenizers take each digit alone
    TextKind.FOREIGN: 0.4,
}
"""Before anybody has counted."""

_LETTERS = bytes(range(ord("a"), ord("z") + 1)) + bytes(range(ord("A"), ord("Z") + 1)) + b" "
_DIGITS = b"0123456789"
_BEYOND_ASCII = bytes(range(0x80, 0x100))


@dataclass(frozen=True, slots=True)
class TextFacts:
    """A prompt as far as its length in tokens goes. ``messages``: 0 for a plain prompt."""

    size_bytes: int
    messages: int
    kind: TextKind


def facts_of(serial: bytes, messages: int) -> TextFacts:
    """The facts of a prompt's bytes.

    >>> facts_of(b"3141 5926 5358 9793", 1).kind
    <TextKind.DIGITS: 'digits'>
    """
    return TextFacts(len(serial), messages, _kind(serial))


def _kind(serial: bytes) -> TextKind:
    sample = serial if len(serial) <= 2 * SAMPLED_BYTES else serial[:SAMPLED_BYTES] + serial[-SAMPLED_BYTES:]
    size = max(len(sample), 1)
    if _share(sample, _BEYOND_ASCII, size) > 0.3:
        return TextKind.FOREIGN
    if _share(sample, _DIGITS, size) > 0.3:
        return TextKind.DIGITS
    return TextKind.PROSE if _share(sample, _LETTERS, size) > 0.85 else TextKind.CODE


def _share(sample: bytes, of: bytes, size: int) -> float:
    return (len(sample) - len(sample.translate(None, of))) / size


_Key = tuple[str, TextKind, int]


class PromptSizes:
    """Bounded: at ``CAPACITY`` models, kinds and sizes the one unused for longest is forgotten."""

    def __init__(self) -> None:
        self._ratios: OrderedDict[_Key, float] = OrderedDict()

    def estimate(self, model: str, text: TextFacts, fleet: FleetSnapshot) -> int:
        """Tokens, at least one."""
        ratio = self._known(_key(model, text)) or _declared(model, text.kind, fleet)
        return max(1, round(text.size_bytes * ratio + text.messages * MESSAGE_TOKENS))

    def learn(self, model: str, text: TextFacts, prompt_tokens: int) -> None:
        """A worker counted ``prompt_tokens``."""
        if text.size_bytes < SHORTEST_BYTES:
            return
        seen = max(prompt_tokens - text.messages * MESSAGE_TOKENS, 1.0) / text.size_bytes
        seen = min(seen, MAX_TOKENS_PER_BYTE)
        key = _key(model, text)
        known = self._ratios.pop(key, None)
        self._ratios[key] = seen if known is None else known + WEIGHT * (seen - known)
        if len(self._ratios) > CAPACITY:
            self._ratios.popitem(last=False)

    def _known(self, key: _Key) -> float | None:
        """Of this size, or of the nearest size of the same kind: a class away the template still weighs alike."""
        model, kind, size = key
        for near in (size, size + 1, size - 1):
            ratio = self._ratios.get((model, kind, near))
            if ratio is not None:
                return ratio
        return None


def _key(model: str, text: TextFacts) -> _Key:
    """Sizes in classes of a factor of four."""
    return model, text.kind, text.size_bytes.bit_length() // 2


def _declared(model: str, kind: TextKind, fleet: FleetSnapshot) -> float:
    """What a worker measured on mixed text, for the kinds that are like it."""
    if kind in (TextKind.PROSE, TextKind.CODE):
        for worker in fleet.workers:
            for instance in worker.models:
                if instance.model == model and instance.tokens_per_byte > 0:
                    return min(instance.tokens_per_byte, MAX_TOKENS_PER_BYTE)
    return TOKENS_PER_BYTE[kind]
