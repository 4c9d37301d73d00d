"""Who is in the simulated engine, at which stage, and the KV cache they hold. Pure; it knows steps, not seconds."""

from collections import deque

from workers.engines.simulated.batch.prefix_cache import PrefixCache
from workers.engines.simulated.batch.sequence import Sequence_, SequenceKey, Stage

_FULL = 0.99
"""Share of the KV cache up to which new sequences are admitted; the rest is for those that grow."""


class Residents:
    """``slots`` sequences run at a time, the others wait; ``capacity_tokens`` is all the KV cache there is."""

    def __init__(self, *, slots: int, capacity_tokens: int) -> None:
        self.cache = PrefixCache()
        self.waiting: deque[Sequence_] = deque()
        self.prefilling: deque[Sequence_] = deque()
        self.decoding: dict[SequenceKey, Sequence_] = {}
        self.context = 0  # tokens held by decoding sequences
        self.own = 0  # KV tokens outside shared blocks
        self.pending = 0  # tokens waiting for prefill
        self._slots = slots
        self._capacity = capacity_tokens
        self._order = 0

    @property
    def idle(self) -> bool:
        """Whether nobody is here."""
        return not (self.waiting or self.prefilling or self.decoding)

    @property
    def room(self) -> int:
        """KV tokens that nobody holds."""
        return self._capacity - self.held

    @property
    def held(self) -> int:
        """KV tokens that somebody holds, or that the cache keeps."""
        return self.cache.held_tokens + self.own

    def arrive(self, sequence: Sequence_) -> None:
        """Queue a sequence: first come first served within a priority."""
        sequence.stage = Stage.WAITING
        sequence.to_prefill = sequence.whole_prompt
        self.pending += sequence.to_prefill
        if sequence.priority and self.waiting:
            for place, other in enumerate(self.waiting):
                if other.priority < sequence.priority:
                    self.waiting.insert(place, sequence)
                    return
        self.waiting.append(sequence)

    def admit(self) -> None:
        """From the queue into the batch, while slots and KV cache last."""
        limit = self._capacity * _FULL
        while self.waiting and len(self.prefilling) + len(self.decoding) < self._slots:
            sequence = self.waiting[0]
            depth = self.cache.match(sequence.block_hashes)
            cached = min(depth * sequence.block_tokens, sequence.whole_prompt - 1)
            used = sequence.block_hashes[: cached // sequence.block_tokens]
            cached = len(used) * sequence.block_tokens
            need = sequence.whole_prompt - cached
            held = self.held
            if held and held + need + self.cache.tokens_to_revive(used) > limit:
                return
            self.waiting.popleft()
            self._order += 1
            sequence.order = self._order
            sequence.stage = Stage.PREFILLING
            self.pending += need - sequence.to_prefill
            self.cache.use(used, sequence.block_tokens)
            sequence.used_blocks = used
            sequence.cached_tokens = sequence.prefilled = cached
            sequence.to_prefill = sequence.own_tokens = need
            self.own += need
            if self.cache.idle_tokens:
                self.cache.shrink(max(self.room, 0))
            self.prefilling.append(sequence)

    def prefilled(self, sequence: Sequence_, count: int, steps: int) -> bool:
        """So many tokens of its prompt were computed; True: that was all, and it decodes from step ``steps`` on."""
        sequence.to_prefill -= count
        sequence.prefilled += count
        self.pending -= count
        if sequence.to_prefill > 0:
            return False
        self.prefilling.remove(sequence)
        self._share(sequence)
        sequence.stage = Stage.DECODING
        sequence.decoding_since = steps
        self.decoding[sequence.key] = sequence
        self.context += sequence.whole_prompt + 1
        self.own += 1
        sequence.own_tokens += 1
        return True

    def grow(self, steps: int) -> None:
        """Every decoding sequence has so many tokens more."""
        grown = steps * len(self.decoding)
        self.context += grown
        self.own += grown

    def leave(self, sequence: Sequence_, steps: int) -> None:
        """Give back whatever it holds after ``steps`` steps, wherever it stands."""
        if sequence.stage is Stage.WAITING:
            self.waiting.remove(sequence)
            self.pending -= sequence.to_prefill
            return
        self.cache.release(sequence.used_blocks)
        sequence.used_blocks = ()
        if sequence.stage is Stage.PREFILLING:
            self.prefilling.remove(sequence)
            self.pending -= sequence.to_prefill
            self.own -= sequence.own_tokens
            return
        produced = sequence.produced(steps)
        grown = steps - sequence.decoding_since
        self.context -= sequence.whole_prompt + 1 + grown
        self.own -= sequence.own_tokens + grown
        sequence.produced_before = produced
        del self.decoding[sequence.key]

    def make_room(self, steps: int) -> list[Sequence_]:
        """For one more token of everyone: idle blocks go, and who was preempted is returned, the youngest first."""
        preempted = []
        room = self.room
        while room < len(self.decoding) > 1:
            preempted.append(self._preempt(steps))
            room = self.room
        if self.cache.idle_tokens:
            self.cache.shrink(max(room - len(self.decoding), 0))
        return preempted

    def _preempt(self, steps: int) -> Sequence_:
        """The youngest gives its cache back and is computed again, first in the queue."""
        sequence = max(self.decoding.values(), key=lambda one: one.order)
        self.leave(sequence, steps)
        sequence.prefilled = sequence.cached_tokens = 0
        sequence.preemptions += 1
        sequence.stage = Stage.WAITING
        sequence.to_prefill = sequence.whole_prompt
        self.pending += sequence.to_prefill
        self.waiting.appendleft(sequence)
        return sequence

    def _share(self, sequence: Sequence_) -> None:
        """The prompt's whole blocks become the cache's, for others to find."""
        new = sequence.block_hashes[len(sequence.used_blocks) :]
        whole = min(len(new), sequence.own_tokens // sequence.block_tokens)
        if whole <= 0:
            return
        new = new[:whole]
        self.cache.use(new, sequence.block_tokens)
        sequence.used_blocks = (*sequence.used_blocks, *new)
        sequence.own_tokens -= whole * sequence.block_tokens
        self.own -= whole * sequence.block_tokens
