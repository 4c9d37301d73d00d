"""A draft worker elsewhere as a drafter: what it proposes, how fast it answers, when it is left alone.

Implements ``workers.speculation.drafter.Drafter``. Nothing that the draft does costs more than the time the caller
allows: what is late is empty, and who is late again and again is not asked for a while.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.events import DraftReport
from protos.contract.worker import ModelInstance
from workers.drafting.line import Dial, GrpcLine
from workers.drafting.link import DraftLink
from workers.speculation.chain import Chain
from workers.speculation.draft_use import DraftUse
from workers.speculation.drafter import Ask, Costs
from workers.speculation.evidence import LEAST_WORTH, Evidence
from workers.speculation.pace import Pace

MAX_SEQUENCES = 4096
"""Known at once; beyond it the one asked longest ago is forgotten."""

MOST_IN_HAND = 64
"""Of one sequence: whoever sends more was not asked for it."""

AGREEMENT = 10
"""The class of evidence under which proposals of a model are counted: they have no agreement of their own."""

AHEAD_WORTH = 0.2
"""The draft goes on while the target verifies, where that is right this often at least."""

LATEST = 4.0
"""Times a round's patience, after which the draft need not go on with it: a little late still shows how late it is."""

MAX_REFUSALS = 3
"""Of one sequence; then it goes without."""

ASK_AGAIN_S = 0.5
"""A question that nobody waits for is not asked anew before."""

SILENT_S = 2.0
"""A draft that was asked and says nothing at all for so long hangs."""

FEW_TOLD = 16
"""A question that tells more tokens says little of what a proposal costs: most of the time goes into reading."""


@dataclass(slots=True)
class _Sequence:
    """One that the draft is asked about."""

    evidence: Evidence
    chain: Chain = field(default_factory=Chain)
    asked_at: float = 0.0  # 0: nothing is outstanding
    told: int = 0  # tokens, with the last question
    refusals: int = 0


class RemoteDrafter:
    """One target model's draft. Called by the thread that steps the model; answers come from the line's threads."""

    def __init__(
        self, link: DraftLink, vocab_size: int, *, dial: Dial = GrpcLine, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.link = link
        self.pace = Pace()
        self.received = self.used = 0  # tokens that came, and those that the target said too
        self._vocab_size = vocab_size
        self._clock = clock
        self._changed = threading.Condition()
        self._sequences: OrderedDict[str, _Sequence] = OrderedDict()
        self._evidence = Evidence()
        self._unheard_since: float | None = None  # when the first question was asked that nothing came after
        self._open = False
        self._why_closed = "the draft is not reached yet"
        self._line = dial(link, self)

    # ------------------------------------------------------------ what the engine asks (Drafter)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.link.model or 'a draft'} at {self.link.address}"

    @property
    def costs(self) -> Costs:
        """What asking costs now."""
        if not self._open:
            return Costs(paused=self._why_closed)
        return self.pace.costs

    def chances(self, key: str, length: int) -> tuple[float, ...]:
        """Of each of ``length`` proposals being accepted, as this sequence and this pair of models showed."""
        one = self._sequences.get(key)
        chance = (one.evidence if one is not None else self._evidence).chance(AGREEMENT)
        reached, count = 1.0, 0
        while count < length and (reached := reached * chance) >= LEAST_WORTH:
            count += 1
        return (chance,) * count

    def answered(self, key: str) -> bool:
        """Whether the draft has read this sequence and keeps up."""
        one = self._sequences.get(key)
        return one is not None and one.chain.answered and one.refusals < MAX_REFUSALS

    def ready(self, key: str, tokens: Sequence[int]) -> int:
        """How many proposals behind ``tokens`` are in hand already."""
        one = self._sequences.get(key)
        if one is None:
            return 0
        with self._changed:
            return one.chain.agrees(tokens)

    def propose(self, asks: Sequence[Ask], wait_s: float) -> list[tuple[int, ...]]:
        """See ``Drafter``."""
        now = self._clock()
        with self._changed:
            if not self._open or not self.pace.may_ask(now) or self._is_silent(now):
                return [()] * len(asks)
            contexts = [context for ask in asks if (context := self._context(ask, now, wait_s)) is not None]
            lacking = [
                one for ask in asks
                if ask.length > 0 and (one := self._sequences[ask.key]).asked_at and len(one.chain.hand) < ask.length
            ]  # fmt: skip
            if contexts and self._unheard_since is None:
                self._unheard_since = now
        self._line.send(contexts)
        with self._changed:
            if self.pace.paused and contexts:
                self.pace.pause(now, self.pace.paused)  # until it answers
            elif wait_s > 0.0 and lacking:
                self._changed.wait_for(lambda: not self._open or not any(one.asked_at for one in lacking), wait_s)
                in_time = self._open and not any(one.asked_at for one in lacking)
                self.pace.round_over(self._clock(), in_time=in_time)
            return [self._in_hand(ask) for ask in asks]

    def end(self, key: str) -> None:
        """The sequence is over."""
        with self._changed:
            one = self._sequences.pop(key, None)
        if one is not None and one.chain.told:
            self._line.send([DraftContext(request_id=key, epoch=one.chain.epoch, position=one.chain.told)])

    def report(self, target: ModelInstance, use: DraftUse | None) -> DraftReport:
        """As the router is told; ``use``: what came of it so far."""
        pace, costs = self.pace, self.costs
        return DraftReport(
            model=target.model,
            quantization=target.quantization,
            draft_worker_id=self.link.draft_worker_id,
            rounds=use.rounds if use is not None else 0,
            proposed=use.proposed if use is not None else 0,
            accepted=use.accepted if use is not None else 0,
            late=pace.late,
            wasted_s=max(0, self.received - self.used) * pace.token_s,
            rtt_s=pace.rtt_s,
            token_s=pace.token_s,
            predicted_gain=use.predicted_gain if use is not None else 1.0,
            measured_gain=use.measured_gain if use is not None else 0.0,
            paused=costs.paused,
        )

    def close(self) -> None:
        """End the call."""
        with self._changed:
            self._open = False
            self._why_closed = "nothing is asked any more"
            self._changed.notify_all()
        self._line.close()

    def _is_silent(self, now: float) -> bool:
        """Whether it is to be left alone, since nothing comes from it, also where nobody waits."""
        since = self._unheard_since
        if since is None or now - since < SILENT_S or self.pace.paused:
            return False
        self.pace.pause(now, f"nothing heard for {now - since:.0f} s")
        return True

    def _in_hand(self, ask: Ask) -> tuple[int, ...]:
        one = self._sequences.get(ask.key)
        return tuple(one.chain.hand[: ask.length]) if one is not None and ask.length > 0 else ()

    def _context(self, ask: Ask, now: float, wait_s: float) -> DraftContext | None:
        """What is told and asked of one sequence."""
        if ask.length <= 0:
            return None
        one = self._sequences.get(ask.key)
        if one is None:
            one = self._sequences[ask.key] = _Sequence(Evidence(broader=self._evidence))
            if len(self._sequences) > MAX_SEQUENCES:
                self._sequences.popitem(last=False)
        if one.refusals >= MAX_REFUSALS:
            return None
        if wait_s <= 0.0 and one.asked_at and now - one.asked_at < ASK_AGAIN_S:
            return None  # it is busy with that: asked anew at every step it would never come to an end
        self._sequences.move_to_end(ask.key)
        told = one.chain.told
        for accepted in one.chain.follow(ask.tokens):
            one.evidence.tell(AGREEMENT, accepted=accepted)
            self.used += accepted
        one.told = len(ask.tokens) - told
        one.asked_at = now if len(one.chain.hand) < ask.length else 0.0
        chance = one.evidence.chance(AGREEMENT)
        first = told == 0
        return DraftContext(
            request_id=ask.key,
            epoch=one.chain.epoch,
            position=one.chain.told,
            token_ids=tuple(ask.tokens[told:]),
            draft_length=ask.length,
            deadline_s=LATEST * wait_s,
            tokenizer_fingerprint=self.link.tokenizer_fingerprint if first else "",
            model=self.link.model if first else "",
            quantization=self.link.quantization if first else "",
            ahead=ask.length + 1 if chance ** (ask.length + 1) >= AHEAD_WORTH else 0,
        )

    # ------------------------------------------------------------ what the line hears

    def opened(self) -> None:
        """A call stands; the draft knows nothing of any sequence."""
        with self._changed:
            self._begin_anew()
            self._open = True

    def broken(self, reason: str) -> None:
        """The call is gone."""
        with self._changed:
            self._open = False
            self._why_closed = reason
            self._begin_anew()
            self._changed.notify_all()

    def arrived(self, proposals: Sequence[DraftProposal]) -> None:
        """Proposals came, or refusals."""
        now = self._clock()
        with self._changed:
            self._unheard_since = None
            for one in proposals:
                self._arrived(one, now)
            self._changed.notify_all()

    def _arrived(self, proposal: DraftProposal, now: float) -> None:
        if proposal.refusal and not proposal.request_id:
            self.pace.pause(now, proposal.refusal, lied=True)
            return
        one = self._sequences.get(proposal.request_id)
        if one is None:
            return
        if proposal.refusal:
            one.chain, one.asked_at = Chain(), 0.0
            one.refusals += 1
            return
        tokens = proposal.token_ids
        if any(token >= self._vocab_size for token in tokens):
            self._lied(now, "it proposed tokens outside the vocabulary")
            return
        if len(one.chain.hand) + len(tokens) > MOST_IN_HAND:
            self._lied(now, "it proposed more than it was asked for")
            return
        fresh = one.chain.arrived(proposal.epoch, proposal.position, tokens)
        self.received += len(tokens)
        if one.told <= FEW_TOLD or not self.pace.known:
            self.pace.computed(len(tokens) + one.told // FEW_TOLD, proposal.compute_s)
        if fresh and one.asked_at:
            self.pace.answered(now - one.asked_at - proposal.compute_s)
            one.asked_at, one.refusals = 0.0, 0

    def _lied(self, now: float, what: str) -> None:
        self.pace.pause(now, what, lied=True)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._unheard_since = None
        for one in self._sequences.values():
            one.chain, one.asked_at = Chain(epoch=one.chain.epoch), 0.0
