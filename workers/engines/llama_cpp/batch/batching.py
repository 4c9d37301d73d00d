"""Continuous batching over one context: admit, plan, decode, sample. One thread calls it; nothing here waits."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from protos.contract.events import CacheChange
from protos.contract.stream import Delta, FinishReason, TokenLogprob, TopLogprob, Usage
from protos.contract.worker import Load
from workers.engines.base import Scored, StepResult
from workers.engines.llama_cpp.batch.residence import Residence
from workers.engines.llama_cpp.batch.sampling import log_probabilities
from workers.engines.llama_cpp.batch.scheduler import Plan, plan_batch
from workers.engines.llama_cpp.batch.sequence import Sequence
from workers.engines.llama_cpp.batch.slots import Slots
from workers.engines.llama_cpp.native import Logits, NativeModel
from workers.engines.llama_cpp.options import Options
from workers.speculation.acceptance import accept
from workers.speculation.draft_use import DraftUse
from workers.speculation.drafter import Drafter
from workers.speculation.evidence import kind_of
from workers.speculation.speculator import CPU_SHAPE, GPU_SHAPE, Counts, Speculator
from workers.speculation.verify_curve import measured

SCORE_CHUNK_TOKENS = 32
"""Rows whose logits are kept at once while scoring: 32 rows of a 150,000-word vocabulary are 19 MB."""
RATE_WINDOW = 0.9
"""Weight of the past in the smoothed token rate."""


@dataclass(slots=True)
class _Counters:
    steps: int = 0
    prefilled: int = 0
    said: int = 0  # output tokens
    tokens_per_s: float = 0.0
    last_step_s: float = 0.0
    last_batch: int = 0
    last_prefill: int = 0
    last_prefills: int = 0


@dataclass(slots=True)
class Batching:
    """The jobs of one model: waiting, running, and the slots they run in."""

    model: NativeModel
    options: Options
    name: str
    quantization: str
    marks: Mapping[int, bytes] = field(default_factory=dict)  # control tokens that mark thoughts and calls
    _slots: Slots = field(init=False)
    _rows_of_one: int = field(init=False)
    _speculator: Speculator | None = field(init=False)
    _waiting: list[Sequence] = field(default_factory=list)
    _running: list[Sequence] = field(default_factory=list)  # in order of arrival
    _ended: list[Delta] = field(default_factory=list)  # since the last step
    _blocks: Residence = field(default_factory=Residence)
    _counters: _Counters = field(default_factory=_Counters)
    _beside: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "grammar masks"))

    def __post_init__(self) -> None:
        self._slots = Slots(self.options.slots)
        self._rows_of_one = self.options.rows_of_one(on_gpu=self.model.on_gpu)
        speculates = self.options.speculate and self.model.can_roll_back
        self._speculator = self._make_speculator() if speculates else None

    def _make_speculator(self) -> Speculator:
        shape = GPU_SHAPE if self.model.on_gpu else CPU_SHAPE
        return Speculator(
            shape, measured(self.model.time_rows, min(self.options.prefill_tokens, self.options.context_tokens))
        )

    @property
    def speculated(self) -> Counts:
        """Proposals verified and accepted so far; goes on counting."""
        return self._speculator.counts if self._speculator is not None else Counts()

    @property
    def idle_s(self) -> float:
        """What the last step waited for a draft model without computing."""
        speculator = self._speculator
        if speculator is None or speculator.drafts is None:
            return 0.0
        return max(0.0, speculator.waited_s - speculator.drafts.spent_s)

    def use_drafter(self, drafter: Drafter | None, fixed: int = 0) -> DraftUse | None:
        """Ask this drafter from the next step on; None: none. ``fixed``: so many each round, whether it pays or not.
        The answer is what comes of it; None: this model's memory cannot be rolled back.
        """
        if self._speculator is None:
            return None
        self._speculator.drafts = DraftUse(drafter, fixed, self.model.clock) if drafter is not None else None
        return self._speculator.drafts

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._running or self._waiting or self._ended)

    def add(self, sequence: Sequence) -> None:
        """Queue a prepared job; the higher priority first, then the earlier."""
        at = len(self._waiting)
        while at > 0 and self._waiting[at - 1].job.priority < sequence.job.priority:
            at -= 1
        self._waiting.insert(at, sequence)

    def abort(self, key: tuple[str, int], error: str = "") -> None:
        """End one job; its slot is free at once."""
        for sequence in (*self._running, *self._waiting):
            if sequence.key == key:
                self._end(sequence, FinishReason.ABORTED, error)
                return

    def abort_all(self, error: str) -> None:
        """End every job."""
        for sequence in (*self._running, *self._waiting):
            self._end(sequence, FinishReason.ABORTED, error)

    def step(self) -> StepResult:
        """Admit what fits, run one batch, and tell what came of it."""
        started, began = time.perf_counter(), self.model.clock()
        self._expire()
        self._admit()
        drafting_s = self._speculate()
        plan = plan_batch(self._running, self.options.prefill_tokens, self._rows_of_one)
        if plan.tokens:
            masks, said = self._look_ahead(plan), self._counters.said
            self.model.decode(plan.tokens, plan.positions, plan.slots, plan.wanted)
            wait(masks)
            self._advance(plan)
            self._count(plan, self._counters.said - said, time.perf_counter() - started)
            if self._speculator is not None and not plan.prefills:
                self._speculator.observe(len(plan.tokens), self.model.clock() - began - drafting_s)
        deltas, self._ended = self._ended, []
        deltas += [self._delta(sequence) for sequence in self._running if sequence.produced > sequence.reported]
        return StepResult(deltas=tuple(deltas), load=self.figures(), cache=self._cache_changes(), at=time.monotonic())

    def close(self) -> None:
        """Free the model; nothing may run any more."""
        self._beside.shutdown()
        self.model.close()

    def last_words(self) -> StepResult:
        """What ended since the last step, without running another."""
        deltas, self._ended = self._ended, []
        return StepResult(deltas=tuple(deltas), load=self.figures())

    # -- the parts of a step -------------------------------------------------------------------------------

    def _expire(self) -> None:
        now = time.monotonic()
        for sequence in [one for one in (*self._running, *self._waiting) if one.deadline_at <= now]:
            self._end(sequence, FinishReason.ABORTED, "the request's deadline passed")

    def _admit(self) -> None:
        while self._waiting:
            sequence = self._waiting[0]
            assignment = self._slots.assign(sequence.tokens, sequence.job.cache_salt)
            if assignment is None:
                return
            self._waiting.pop(0)
            reused = 0 if sequence.scores_prompt else assignment.reused
            if assignment.move_to is not None:
                self.model.copy(assignment.slot, assignment.move_to)
                self._slots.move(assignment.slot, assignment.move_to)
                self._blocks.copy(assignment.slot, assignment.move_to)
            if assignment.copy_from is not None:
                self.model.copy(assignment.copy_from, assignment.slot)
            if not self.model.trim(assignment.slot, reused):
                reused = 0  # memory that cannot be cut in the middle (recurrent layers) starts anew
                self.model.trim(assignment.slot, 0)
            self._slots.take(assignment, sequence.tokens[:reused], sequence.job.cache_salt)
            self._blocks.keep(assignment.slot, sequence.job.block_hashes)
            sequence.slot = assignment.slot
            sequence.computed = reused
            sequence.cached_tokens = min(reused, sequence.prompt_tokens)
            if self._speculator is not None:
                kind = kind_of(sequence.job.sampling.temperature, structured=sequence.constraint is not None)
                sequence.speculation = self._speculator.begin(
                    sequence.tokens, sequence.job.cache_salt, sequence.draft_key, kind
                )
                sequence.speculation.fitting = sequence.fitting
            self._running.append(sequence)

    def _speculate(self) -> float:
        """Let the text propose its next tokens, or a draft model; while prompts are read, the step has enough to do.

        The answer is how long a draft model took of that, by the target's clock.
        """
        running = self._running
        if self._speculator is None or not running or any(sequence.prefilling for sequence in running):
            return 0.0
        self._speculator.allot(
            [sequence.speculation for sequence in running],
            [min(sequence.budget - sequence.produced - 1, self._rows_of_one - 1) for sequence in running],
            plain_rows=len(running),
            most_rows=self.options.prefill_tokens,
        )
        return self._speculator.drafts.spent_s if self._speculator.drafts is not None else 0.0

    def _advance(self, plan: Plan) -> None:
        for (sequence, share), row in zip(plan.shares, plan.first_rows, strict=True):
            start = sequence.computed
            if sequence.scores_prompt:
                self._score_prompt(sequence, row, start, share)
            self._slots.all[sequence.slot].tokens.extend(sequence.tokens[start : start + share])
            sequence.computed = start + share
        for row, sequence in plan.sampled:
            if sequence.prefilling:
                self._blocks.replace(sequence.slot, sequence.job.block_hashes)
            if sequence.budget:
                self._take(sequence, row)
            else:
                self._end(sequence, FinishReason.LENGTH)

    def _score_prompt(self, sequence: Sequence, row: int, start: int, share: int) -> None:
        """Each row tells what the token behind it was worth."""
        echo = sequence.echo
        assert echo is not None
        first = sequence.prompt_tokens - len(echo.pieces)  # a begin-of-sequence token is not told of, nor is the first
        for further in range(max(0, first - start), share):
            at = start + further + 1
            if at < sequence.prompt_tokens:
                token = sequence.tokens[at]
                echo.add(self._logprob(self.model.logits(row + further), token, self.model.piece(token), echo.top))

    def _look_ahead(self, plan: Plan) -> "list[Future[None]]":
        """Grammars work out their masks beside the step, on another core where there is one: the last tokens are known,
        and nobody waits for a grammar that is not his.
        """
        kept = [one.constraint for _, one in plan.sampled if one.constraint is not None and one.speech.answering]
        return [self._beside.submit(one.look_ahead) for one in kept]

    def _take(self, sequence: Sequence, row: int) -> None:
        """The sequence's next token, and those that were proposed behind it as far as the model says them too."""
        draft, said = sequence.draft, len(sequence.tokens)
        accepted = accept(draft, lambda further: self._sample(sequence, self.model.logits(row + further)))
        speculation = sequence.speculation
        if speculation is None or self._speculator is None:
            return
        if draft:
            self._speculator.accepted(accepted, drafted=speculation.drafted)
            self._slots.all[sequence.slot].tokens.extend(draft[:accepted])
            sequence.computed += accepted
            self.model.trim(sequence.slot, sequence.computed)
        speculation.judge(sequence.tokens[said:])

    def _sample(self, sequence: Sequence, logits: Logits) -> int | None:
        """Its next token; None when the answer ends with it."""
        sampling, speech = sequence.job.sampling, sequence.speech
        constraint = sequence.constraint if speech.answering else None  # thoughts are free
        thinks = constraint is None and sequence.constraint is not None  # an answer that fits has yet to come
        token = sequence.sampler.draw(logits, None if constraint is None else constraint.mask(), goes_on=thinks)
        if constraint is not None and not constraint.accept(token):
            # It grew beyond its bounds (``compiler.LIMITS``). Whoever made it that complex gets half an answer: that is
            # no fault of this machine's.
            self._end(sequence, FinishReason.LENGTH)
            return None
        if token in sampling.stop_token_ids or (self.model.ends_generation(token) and not sampling.ignore_eos):
            self._end(sequence, FinishReason.STOP)
            return None
        piece = self.marks.get(token) or self.model.piece(token)
        sequence.tokens.append(token)
        sequence.produced += 1
        self._counters.said += 1
        sequence.new_ids.append(token)
        if sampling.logprobs:
            sequence.logprobs.append(self._logprob(logits, token, piece, sampling.top_logprobs))
        speech.feed(piece)
        if constraint is None and sequence.constraint is not None and speech.answering and speech.answered:
            sequence.constraint.replay(self.model.tokenize(speech.answered, special=True, add_start=False))
        if speech.over or (constraint is not None and constraint.complete):
            self._end(sequence, FinishReason.STOP)
            return None
        if sequence.produced >= sequence.budget:
            self._end(sequence, FinishReason.LENGTH)
            return None
        return token

    def _logprob(self, logits: Logits, token: int, piece: bytes, top: int) -> TokenLogprob:
        value, alternatives = log_probabilities(logits, token, top)
        return TokenLogprob(
            token_id=token,
            token=piece,
            logprob=value,
            top=tuple(TopLogprob(token_id=one, token=self.model.piece(one), logprob=p) for one, p in alternatives),
        )

    def _end(self, sequence: Sequence, reason: FinishReason, error: str = "") -> None:
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        else:
            self._running.remove(sequence)
            self._slots.release(sequence.slot)
            if self._speculator is not None:
                answer = sequence.tokens[sequence.prompt_tokens :]
                self._speculator.end(sequence.job.cache_salt, answer, sequence.draft_key)
        sequence.speech.end()
        if reason is FinishReason.STOP and sequence.speech.called:
            reason = FinishReason.TOOL_CALLS
        self._ended.append(self._delta(sequence, reason, error))

    def _delta(self, sequence: Sequence, reason: FinishReason | None = None, error: str = "") -> Delta:
        usage = None
        if reason is not None:
            usage = Usage(
                prompt_tokens=sequence.prompt_tokens,
                completion_tokens=sequence.produced,
                cached_tokens=sequence.cached_tokens,
            )
        delta = Delta(
            request_id=sequence.job.request_id,
            attempt=sequence.job.attempt,
            position=sequence.reported,
            **sequence.speech.take(),
            **(sequence.echo.take() if sequence.echo is not None else {}),
            token_ids=tuple(sequence.new_ids) if sequence.job.return_token_ids else (),
            token_count=sequence.produced - sequence.reported,
            text_tokens=sequence.speech.text_tokens,
            finish_reason=reason,
            usage=usage,
            logprobs=tuple(sequence.logprobs),
            error=error,
            stopped_by=sequence.speech.stopped_by if reason is FinishReason.STOP else "",
        )
        sequence.reported = sequence.produced
        sequence.new_ids.clear()
        sequence.logprobs.clear()
        return delta

    # -- figures -------------------------------------------------------------------------------------------

    def _count(self, plan: Plan, said: int, seconds: float) -> None:
        counters = self._counters
        counters.steps += 1
        counters.prefilled += plan.prefill_tokens
        rate = said / seconds
        counters.tokens_per_s = RATE_WINDOW * counters.tokens_per_s + (1 - RATE_WINDOW) * rate
        counters.last_step_s, counters.last_batch = seconds, plan.decoding
        counters.last_prefill, counters.last_prefills = plan.prefill_tokens, plan.prefills

    def figures(self) -> Load:
        """The load now."""
        held = sum(sequence.computed for sequence in self._running)
        unread = sum(sequence.pending for sequence in self._running if sequence.prefilling)
        everyone = (*self._running, *self._waiting)
        counters = self._counters
        return Load(
            running=len(self._running),
            waiting=len(self._waiting),
            prefill_tokens_pending=unread + sum(len(sequence.tokens) for sequence in self._waiting),
            context_tokens=held,
            expected_remaining_tokens=sum(sequence.expected_remaining for sequence in everyone),
            kv_used=held / (self.options.slots * self.options.context_tokens),
            step_sequence=counters.steps,
            prefill_progress=counters.prefilled,
            draft_rounds=self.speculated.rounds,
            draft_proposed=self.speculated.proposed,
            draft_accepted=self.speculated.accepted,
            tokens_per_s=counters.tokens_per_s if self._running else 0.0,
            last_step_s=counters.last_step_s,
            last_step_batch=counters.last_batch,
            last_step_prefill_tokens=counters.last_prefill,
            last_step_prefills=counters.last_prefills,
        )

    def _cache_changes(self) -> tuple[CacheChange, ...]:
        stored, evicted = self._blocks.take()
        if not stored and not evicted:
            return ()
        return (CacheChange(model=self.name, quantization=self.quantization, stored=stored, evicted=evicted),)

    # -- scoring -------------------------------------------------------------------------------------------

    def score(self, tokens: list[int]) -> Scored | None:
        """Log-probabilities by teacher forcing; None while every slot is busy."""
        slot = self._slots.borrow()
        if slot is None:
            return None
        self._blocks.replace(slot.index, ())
        self.model.trim(slot.index, 0)
        values: list[float] = []
        chunk = min(SCORE_CHUNK_TOKENS, self.options.prefill_tokens)
        for start in range(0, len(tokens) - 1, chunk):
            rows = tokens[start : min(start + chunk, len(tokens) - 1)]
            count = len(rows)
            self.model.decode(rows, list(range(start, start + count)), [slot.index] * count, [True] * count)
            values += [log_probabilities(self.model.logits(row), tokens[start + row + 1], 0)[0] for row in range(count)]
        self.model.trim(slot.index, 0)
        return Scored(token_ids=tuple(tokens[1:]), logprobs=tuple(values))
