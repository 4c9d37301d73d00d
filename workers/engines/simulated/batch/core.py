"""A continuous-batching engine as a pure machine: ``submit``, ``abort``, ``step(now)``; time is whatever it is told.

Scheduling is that of vLLM and of llama.cpp with chunked prefill: every step gives each decoding sequence a token and
spends what is left of the chunk on prefill, first come first served; sequences are admitted while slots and KV cache
last; when the cache overflows the youngest is preempted and computed again later.

A stretch of steps in which the batch does not change is one *segment*, advanced in closed form: its step time grows
linearly with the context, so the time of step j is a quadratic in j. A thousand tokens of thirty sequences cost a
few operations. With a draft model a step is what a round takes for each of the tokens it yields in the mean.
"""

import heapq
import math
import random
from collections.abc import Iterator

from protos.contract.worker import Load
from workers.engines.simulated.batch.chunking import share_out
from workers.engines.simulated.batch.noise import Noise
from workers.engines.simulated.batch.prefix_cache import PrefixCache
from workers.engines.simulated.batch.residents import Residents
from workers.engines.simulated.batch.segment import Segment
from workers.engines.simulated.batch.sequence import Event, EventKind, Sequence_, SequenceKey, Stage
from workers.engines.simulated.parameters import EngineParameters
from workers.speculation.rounds import Round

NEVER = math.inf


class SimulatedCore:
    """``parameters`` are the true ones. ``rng`` draws the noise; the same seed gives the same run."""

    def __init__(self, parameters: EngineParameters, rng: random.Random) -> None:
        self.parameters = parameters
        self.factor = 1.0
        self.steps_done = 0
        self.prefill_progress = 0
        self.preemptions = 0
        self.busy_s = 0.0
        self._jitter = random.Random(rng.random())
        self._noise = Noise(parameters, rng)
        self._rounds = parameters.rounds()
        self._round: Round | None = None  # of the segment
        self._drafted = [0.0, 0.0, 0.0]  # rounds of one sequence each, tokens proposed and accepted in them
        self._sequences: dict[SequenceKey, Sequence_] = {}
        self._residents = Residents(slots=parameters.slots, capacity_tokens=parameters.kv_capacity_tokens)
        self._finishes: list[tuple[int, int, Sequence_]] = []  # heap: step of the last token, order, sequence
        self._segment: Segment | None = None
        self._events: list[Event] = []
        self._last: tuple[float, int, int, int] = (0.0, 0, 0, 0)  # seconds, batch, prefill tokens, prefills of a step
        self._held_since: float | None = None  # nothing moves from here on
        self._free_at = 0.0

    @property
    def cache(self) -> PrefixCache:
        """Which text blocks it holds."""
        return self._residents.cache

    # ------------------------------------------------------------ what is asked of it

    def submit(self, now: float, sequence: Sequence_) -> None:
        """Queue a sequence. ``now`` may not lie before the last ``step``."""
        self._sequences[sequence.key] = sequence
        self._residents.arrive(sequence)
        self._interrupt(now)

    def abort(self, now: float, key: SequenceKey) -> Sequence_ | None:
        """End a sequence at once; its room is free from the next step on. Unknown keys are ignored."""
        sequence = self._sequences.get(key)
        if sequence is None:
            return None
        self._settle(now)
        self._remove(sequence)
        sequence.ended_at = now
        self._events.append(Event(EventKind.ABORTED, sequence, now))
        self._interrupt(now)
        return sequence

    def step(self, now: float) -> list[Event]:
        """Everything up to ``now``: whole steps only. Returns what changed, in order of time."""
        if self._held_since is None:
            while self._segment is not None and self._segment.ends_at <= now:
                self._complete(self._segment)
            if self._segment is None and not self._residents.idle:
                self._plan(max(now, self._free_at))
        events, self._events = self._events, []
        return events

    def next_event_at(self) -> float:
        """When the batch next changes by itself; infinite when idle or held."""
        if self._held_since is not None or self._segment is None:
            return NEVER
        return self._segment.ends_at

    def next_step_at(self, now: float) -> float:
        """When the step that runs at ``now`` ends."""
        if self._held_since is not None or self._segment is None:
            return NEVER
        segment = self._segment
        return segment.at(min(segment.done(now) + 1, segment.steps))

    def __len__(self) -> int:
        """Sequences here, running and waiting."""
        return len(self._sequences)

    def sequences(self) -> Iterator[Sequence_]:
        """All that are here."""
        return iter(self._sequences.values())

    def produced(self, sequence: Sequence_, now: float) -> int:
        """Output tokens of a sequence by ``now``."""
        return sequence.produced(self._steps(now))

    # ------------------------------------------------------------ faults

    def hold(self, now: float) -> None:
        """Stop making steps, with everything where it is, until ``release``."""
        if self._held_since is None:
            self._settle(now)
            self._held_since = now

    def release(self, now: float) -> None:
        """Go on after ``hold``, with those who came or were aborted meanwhile."""
        if self._held_since is None:
            return
        if self._segment is not None:
            self._segment.starts_at += now - self._held_since
        self._free_at = now
        self._held_since = None
        self._interrupt(now)

    def slow(self, now: float, factor: float) -> None:
        """Take ``factor`` times as long for every step from the next one on; 1 is as new."""
        if factor <= 0:
            raise ValueError(f"a factor is above zero, not {factor}")
        self.factor = factor
        self._interrupt(now)

    def clear(self, now: float) -> None:
        """Abort everything and forget the prefix cache: the model is unloaded."""
        for key in list(self._sequences):
            self.abort(now, key)
        self._segment = None
        self._residents.cache = PrefixCache()

    # ------------------------------------------------------------ load

    def load(self, now: float) -> Load:
        """The figures a worker reports."""
        done = self._segment.done(now) if self._segment is not None and self._held_since is None else 0
        steps = self.steps_done + done
        here = self._residents
        batch = len(here.decoding)
        remaining = sum(max(1, one.expected_tokens - one.produced(steps)) for one in here.decoding.values())
        for queue in (here.prefilling, here.waiting):
            remaining += sum(max(1, one.expected_tokens - one.produced_before) for one in queue)
        grown = done * batch
        last_s, last_batch, last_prefill, last_prefills = self._last_step(done)
        return Load(
            running=batch + len(here.prefilling),
            waiting=len(here.waiting),
            prefill_tokens_pending=here.pending,
            context_tokens=here.context + grown + sum(one.prefilled for one in here.prefilling),
            expected_remaining_tokens=remaining,
            kv_used=min((here.held + grown) / self.parameters.kv_capacity_tokens, 1.0),
            step_sequence=steps,
            prefill_progress=self.prefill_progress,
            tokens_per_s=last_batch / last_s if last_s > 0 else 0.0,
            last_step_s=last_s,
            last_step_batch=last_batch,
            last_step_prefill_tokens=last_prefill,
            last_step_prefills=last_prefills,
            draft_rounds=round(self._drafted[0]),
            draft_proposed=round(self._drafted[1]),
            draft_accepted=round(self._drafted[2]),
        )

    def _last_step(self, done: int) -> tuple[float, int, int, int]:
        segment = self._segment
        if done == 0 or segment is None:
            return self._last
        noise = max(self._jitter.gauss(1.0, self.parameters.noise), 0.2)
        return (segment.step_s + (done - 1) * segment.growth_s) * noise, len(self._residents.decoding), 0, 0

    # ------------------------------------------------------------ segments

    def _steps(self, now: float) -> int:
        if self._segment is None or self._held_since is not None:
            return self.steps_done
        return self.steps_done + self._segment.done(now)

    def _interrupt(self, now: float) -> None:
        """The batch is to change: let the step under way be the segment's last."""
        if self._held_since is not None:
            return
        if self._segment is None:
            if not self._residents.idle:
                self._plan(max(now, self._free_at))
        else:
            self._segment.cut(now)

    def _settle(self, now: float) -> None:
        """Write down the whole steps of the segment so far, so that counts are those of ``now``."""
        segment = self._segment
        if segment is None or self._held_since is not None or segment.steps == 1:
            return
        done = min(segment.done(now), segment.steps - 1)
        if done > 0:
            self._advance(done, segment.at(done), segment)
            segment.skip(done)

    def _advance(self, steps: int, now: float, segment: Segment) -> None:
        if batch := len(self._residents.decoding):
            last_s = segment.step_s + (steps - 1) * segment.growth_s
            self._last = (last_s, batch, 0, 0)
            self._count_drafts(steps, batch)
        self.busy_s += now - segment.starts_at
        self.steps_done += steps
        self._residents.grow(steps)

    def _count_drafts(self, steps: int, batch: int) -> None:
        if (one := self._round) is not None and one.proposed:
            rounds = steps / one.tokens
            self._drafted[0] += rounds * batch
            self._drafted[1] += rounds * one.proposed
            self._drafted[2] += batch * (steps - rounds)

    def _complete(self, segment: Segment) -> None:
        now = segment.ends_at
        self._segment = None
        self._advance(segment.steps, now, segment)
        if segment.prefill:
            tokens = 0
            for sequence, count in segment.prefill:
                if sequence.stage is Stage.PREFILLING:  # else it was aborted meanwhile
                    tokens += count
                    self._prefilled(sequence, count, now)
            self.prefill_progress += tokens
            self._last = (now - segment.starts_at, segment.batch, tokens, len(segment.prefill))
        finishes, steps = self._finishes, self.steps_done
        while finishes and finishes[0][0] <= steps:
            _, order, sequence = heapq.heappop(finishes)
            if sequence.stage is Stage.DECODING and sequence.order == order:
                self._finish(sequence, now)
        self._plan(now)

    def _plan(self, now: float) -> None:
        """The next segment: admit, share out the chunk, or decode until something happens."""
        here, p = self._residents, self.parameters
        here.admit()
        for sequence in here.make_room(self.steps_done):
            self.preemptions += 1
            self._events.append(Event(EventKind.PREEMPTED, sequence, now))
        batch = len(here.decoding)
        self._round = None
        if here.prefilling:  # the step has enough to do: nothing is proposed
            prefill, prefill_s = share_out(here.prefilling, p.prefill_budget(batch), p)
            took = p.decode_s(batch, here.context) + prefill_s if batch else max(p.base_s, prefill_s)
            self._segment = Segment(now, 1, took * self._slowness(now, 1), 0.0, prefill, batch)
        elif batch:
            steps = self._steps_to_next_change(batch)
            noise = self._slowness(now, steps)
            took, yielded = p.decode_s(batch, here.context), 1.0
            if self._rounds is not None:
                self._round = self._rounds.round(batch, here.context)
                took, yielded = self._round.seconds, self._round.tokens
            noise /= yielded
            self._segment = Segment(now, steps, took * noise, p.per_context_token_s * batch * noise, (), batch)
        else:
            self._segment = None

    def _steps_to_next_change(self, batch: int) -> int:
        """Until the first sequence ends or the KV cache is full."""
        finishes = self._finishes
        while finishes[0][2].stage is not Stage.DECODING or finishes[0][2].order != finishes[0][1]:
            heapq.heappop(finishes)  # was aborted or preempted
        return min(finishes[0][0] - self.steps_done, max(self._residents.room // batch, 1))

    def _slowness(self, now: float, steps: int) -> float:
        """The mean of so many steps' noise, and the fault's factor."""
        return self._noise.factor(now, steps) * self.factor

    # ------------------------------------------------------------ sequences

    def _prefilled(self, sequence: Sequence_, count: int, now: float) -> None:
        if not self._residents.prefilled(sequence, count, self.steps_done):
            return
        if sequence.first_at is None:
            sequence.first_at = now
            self._events.append(Event(EventKind.FIRST_TOKEN, sequence, now))
        last = self.steps_done + sequence.output_tokens - sequence.produced_before - 1
        heapq.heappush(self._finishes, (last, sequence.order, sequence))

    def _finish(self, sequence: Sequence_, now: float) -> None:
        self._remove(sequence)
        sequence.ended_at = now
        self._events.append(Event(EventKind.FINISHED, sequence, now))

    def _remove(self, sequence: Sequence_) -> None:
        del self._sequences[sequence.key]
        self._residents.leave(sequence, self.steps_done)
        sequence.stage = Stage.ENDED
