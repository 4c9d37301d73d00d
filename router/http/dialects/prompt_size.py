"""How many tokens a prompt will have, guessed from its bytes: the router has no tokenizer.

The guess is calibrated per model by what workers then counted. A worker that measured its tokenizer on text says so
in its profile; until either is known, four bytes are taken for a token, as English has them.
"""

from collections import OrderedDict

from router.domain.snapshot import FleetSnapshot

TOKENS_PER_BYTE = 0.25
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


class PromptSizes:
    """Bounded: at ``CAPACITY`` models the one unused for longest is forgotten."""

    def __init__(self) -> None:
        self._ratios: OrderedDict[str, float] = OrderedDict()

    def estimate(self, model: str, text_bytes: int, messages: int, fleet: FleetSnapshot) -> int:
        """Tokens, at least one. ``messages``: 0 for a plain prompt."""
        ratio = self._ratios.get(model) or _declared(model, fleet)
        return max(1, round(text_bytes * ratio + messages * MESSAGE_TOKENS))

    def learn(self, model: str, text_bytes: int, messages: int, prompt_tokens: int) -> None:
        """A worker counted ``prompt_tokens``."""
        if text_bytes < SHORTEST_BYTES:
            return
        seen = min(max(prompt_tokens - messages * MESSAGE_TOKENS, 1.0) / text_bytes, MAX_TOKENS_PER_BYTE)
        known = self._ratios.pop(model, None)
        self._ratios[model] = seen if known is None else known + WEIGHT * (seen - known)
        if len(self._ratios) > CAPACITY:
            self._ratios.popitem(last=False)


def _declared(model: str, fleet: FleetSnapshot) -> float:
    for worker in fleet.workers:
        for instance in worker.models:
            if instance.model == model and instance.tokens_per_byte > 0:
                return min(instance.tokens_per_byte, MAX_TOKENS_PER_BYTE)
    return TOKENS_PER_BYTE
