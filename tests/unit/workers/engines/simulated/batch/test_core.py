"""The simulated engine's core: a continuous-batching engine, step for step, however it gets from one to the next."""

import math
import random
from collections import deque
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engines.simulated.batch.core import NEVER, SimulatedCore
from workers.engines.simulated.batch.sequence import EventKind, Sequence_
from workers.engines.simulated.parameters import EngineParameters

PARAMETERS = EngineParameters(
    base_s=0.010,
    per_sequence_s=0.001,
    per_context_token_s=1e-6,
    prefill_token_s=2e-4,
    prefill_attention=1e-4,
    slots=4,
    chunk_tokens=64,
    kv_capacity_tokens=100_000,
    noise=0.0,
)


@dataclass(frozen=True)
class Asked:
    """One request."""

    at: float
    prompt: int
    output: int


def through_the_core(asked: list[Asked], parameters: EngineParameters = PARAMETERS) -> list[Sequence_]:
    core = SimulatedCore(parameters, random.Random(0))
    sequences = []
    for number, one in enumerate(asked):
        core.step(one.at)
        sequences.append(Sequence_(key=number, prompt_tokens=one.prompt, output_tokens=one.output))
        core.submit(one.at, sequences[-1])
    run_out(core)
    return sequences


def run_out(core: SimulatedCore) -> None:
    while len(core):
        core.step(core.next_event_at())


def step_by_step(asked: list[Asked], p: EngineParameters = PARAMETERS) -> list[tuple[float, float]]:
    """The plainest engine that could be: one step after the other. First and last token of each request."""
    coming = deque(enumerate(asked))
    waiting: deque[int] = deque()
    left, done, written = {}, {}, {}  # type: ignore[var-annotated]
    prefilling: list[int] = []
    decoding: list[int] = []
    first, last = {}, {}  # type: ignore[var-annotated]
    now = 0.0
    while coming or waiting or prefilling or decoding:
        if not (waiting or prefilling or decoding):
            now = max(now, coming[0][1].at)
        while coming and coming[0][1].at <= now:
            number, one = coming.popleft()
            waiting.append(number)
            left[number], done[number], written[number] = one.prompt, 0, 0
        while waiting and len(prefilling) + len(decoding) < p.slots:
            prefilling.append(waiting.popleft())
        batch, context = len(decoding), sum(asked[one].prompt + written[one] for one in decoding)
        budget, prefill_s, finished = max(p.chunk_tokens - batch, 1), 0.0, []
        for number in prefilling:
            count = min(left[number], budget, p.sequence_chunk_tokens or budget)
            prefill_s += p.prefill_s(count, done[number] + count / 2)
            left[number] -= count
            done[number] += count
            budget -= count
            if not left[number]:
                finished.append(number)
            if not budget:
                break
        decode_s = p.decode_s(batch, context) if batch else 0.0
        now += decode_s + prefill_s if batch else max(p.base_s, prefill_s)
        for number in list(decoding):
            written[number] += 1
            if written[number] == asked[number].output:
                decoding.remove(number)
                last[number] = now
        for number in finished:
            prefilling.remove(number)
            first[number] = now
            written[number] = 1
            if asked[number].output == 1:
                last[number] = now
            else:
                decoding.append(number)
    return [(first[number], last[number]) for number in range(len(asked))]


requests = st.builds(
    Asked,
    at=st.floats(0.0, 3.0).map(lambda at: round(at, 4)),
    prompt=st.integers(1, 300),
    output=st.integers(1, 60),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(requests, min_size=1, max_size=12), st.sampled_from((0, 40)))
def test_whole_stretches_take_as_long_as_their_steps(asked: list[Asked], of_one: int) -> None:
    """Chunked prefill beside decoding, slots, first come first served: as a loop over single steps has it."""
    asked.sort(key=lambda one: one.at)
    # Never two at once, of whom the first would find an idle engine, and nobody on the very end of a step.
    asked = [replace(one, at=one.at + (1 + number) * math.sqrt(2.0) * 1e-6) for number, one in enumerate(asked)]
    parameters = replace(PARAMETERS, sequence_chunk_tokens=of_one)
    both = zip(through_the_core(asked, parameters), step_by_step(asked, parameters), strict=True)
    for sequence, (first, last) in both:
        assert sequence.first_at == pytest.approx(first, rel=1e-6)
        assert sequence.ended_at == pytest.approx(last, rel=1e-6)


def test_looking_often_changes_nothing() -> None:
    """``step`` may be called at any time: the worker on a real clock and the simulation see the same engine."""
    asked = [Asked(at=0.1 * number, prompt=40 + 13 * number, output=30) for number in range(8)]
    core = SimulatedCore(PARAMETERS, random.Random(0))
    sequences, events = [], []
    ticks, at = random.Random(1), 0.0
    coming = deque(enumerate(asked))
    while coming or len(core):
        at += ticks.expovariate(200.0)
        while coming and coming[0][1].at <= at:
            number, one = coming.popleft()
            events += core.step(one.at)
            sequences.append(Sequence_(key=number, prompt_tokens=one.prompt, output_tokens=one.output))
            core.submit(one.at, sequences[-1])
        events += core.step(at)
        core.load(at)
    for seen, alone in zip(sequences, through_the_core(asked), strict=True):
        assert seen.first_at == pytest.approx(alone.first_at, rel=1e-6)
        assert seen.ended_at == pytest.approx(alone.ended_at, rel=1e-6)
    assert sum(event.kind is EventKind.FINISHED for event in events) == len(asked)


@settings(max_examples=80, deadline=None)
@given(st.lists(requests, min_size=1, max_size=20), st.integers(0, 2**32), st.integers(400, 1500))
def test_whatever_happens_it_ends_empty(asked: list[Asked], seed: int, capacity: int) -> None:
    """Noise, aborts and a KV cache that is too small for all: never over its capacity, everything is given back."""
    asked.sort(key=lambda one: one.at)
    dice = random.Random(seed)
    core = SimulatedCore(replace(PARAMETERS, kv_capacity_tokens=capacity, noise=0.2, drift=0.2), random.Random(seed))
    for number, one in enumerate(asked):
        core.step(one.at)
        blocks = tuple(range(one.prompt // 64)) if dice.random() < 0.5 else ()
        sequence = Sequence_(key=number, prompt_tokens=one.prompt, output_tokens=one.output, block_hashes=blocks)
        core.submit(one.at, sequence)
        if dice.random() < 0.2:
            core.abort(one.at + 0.001, dice.randrange(number + 1))
        assert core.load(one.at).kv_used <= 1.0
    ends, at = 0, asked[-1].at + 0.001
    while len(core):
        at = max(core.next_event_at(), at)
        ends += sum(event.kind is EventKind.FINISHED for event in core.step(at))
        assert core.load(at).kv_used <= 1.0
    load = core.load(at)
    assert (load.running, load.waiting, load.prefill_tokens_pending, load.context_tokens) == (0, 0, 0, 0)
    assert load.expected_remaining_tokens == 0
    assert core.cache.held_tokens == 0
    assert core._residents.own == 0
    core.step(at + 100.0)
    assert core.next_event_at() == NEVER


def test_a_full_cache_preempts_the_youngest_which_is_computed_again() -> None:
    """Nothing is lost but time."""
    tight = replace(PARAMETERS, kv_capacity_tokens=400, chunk_tokens=512)
    asked = [Asked(at=0.0001 * number, prompt=90, output=100) for number in range(4)]
    core = SimulatedCore(tight, random.Random(0))
    sequences = [Sequence_(key=n, prompt_tokens=one.prompt, output_tokens=one.output) for n, one in enumerate(asked)]
    for one, sequence in zip(asked, sequences, strict=True):
        core.step(one.at)
        core.submit(one.at, sequence)
    run_out(core)
    assert core.preemptions > 0
    assert sequences[0].preemptions == 0, "the oldest keeps what it has"
    assert all(one.ended_at is not None for one in sequences)
    roomy = through_the_core(asked, replace(tight, kv_capacity_tokens=100_000))
    assert max(one.ended_at or 0.0 for one in sequences) > max(one.ended_at or 0.0 for one in roomy)


def test_a_prefix_that_is_there_need_not_be_computed() -> None:
    """By blocks; the last token is computed in any case, and another beginning shares nothing."""
    core = SimulatedCore(PARAMETERS, random.Random(0))
    first = Sequence_(key=1, prompt_tokens=256, output_tokens=2, block_hashes=(1, 2, 3, 4))
    core.submit(0.0, first)
    run_out(core)
    assert core.cache.drain_changes()[0] == (1, 2, 3, 4)
    progress, now = core.prefill_progress, core.busy_s
    again = Sequence_(key=2, prompt_tokens=256, output_tokens=2, block_hashes=(1, 2, 3, 4))
    core.submit(now, again)
    run_out(core)
    assert again.cached_tokens == 192
    assert core.prefill_progress - progress == 64
    other = Sequence_(key=3, prompt_tokens=256, output_tokens=2, block_hashes=(9, 2, 3, 4))
    core.submit(core.busy_s + 1.0, other)
    run_out(core)
    assert other.cached_tokens == 0


def test_held_it_stands_still_and_goes_on_from_there() -> None:
    """A stall: everything ends later by as long as it lasted."""
    asked = [Asked(at=0.0, prompt=30, output=50), Asked(at=0.2, prompt=30, output=50)]
    usual = through_the_core(asked)
    core = SimulatedCore(PARAMETERS, random.Random(0))
    sequences = [Sequence_(key=n, prompt_tokens=one.prompt, output_tokens=one.output) for n, one in enumerate(asked)]
    core.submit(0.0, sequences[0])
    core.step(0.2)
    core.submit(0.2, sequences[1])
    core.step(0.3)
    core.hold(0.3)
    before = core.load(0.3)
    assert core.step(5.0) == []
    assert core.next_event_at() == NEVER
    assert core.load(5.0).step_sequence == before.step_sequence
    assert core.load(5.0).running == 2
    core.release(5.3)
    run_out(core)
    for late, one in zip(sequences, usual, strict=True):
        assert late.ended_at == pytest.approx((one.ended_at or 0.0) + 5.0, abs=0.05)


def test_slowed_it_takes_so_many_times_as_long_until_it_is_as_new() -> None:
    """From the next step on, for prefill and decoding alike."""
    alone = through_the_core([Asked(at=0.0, prompt=100, output=30)])[0]
    core = SimulatedCore(PARAMETERS, random.Random(0))
    core.slow(0.0, 3.0)
    slow = Sequence_(key=1, prompt_tokens=100, output_tokens=30)
    core.submit(0.0, slow)
    run_out(core)
    assert slow.ended_at == pytest.approx(3.0 * (alone.ended_at or 0.0))
    core.slow(slow.ended_at or 0.0, 1.0)
    again = Sequence_(key=2, prompt_tokens=100, output_tokens=30)
    core.submit(slow.ended_at or 0.0, again)
    run_out(core)
    assert (again.ended_at or 0.0) - (slow.ended_at or 0.0) == pytest.approx(alone.ended_at)
    with pytest.raises(ValueError, match="above zero"):
        core.slow(0.0, 0.0)


def test_the_same_seed_is_the_same_run() -> None:
    """And another seed another."""
    noisy = replace(PARAMETERS, noise=0.1, drift=0.2)

    def ends(seed: int) -> list[float | None]:
        core = SimulatedCore(noisy, random.Random(seed))
        sequences = [Sequence_(key=n, prompt_tokens=50, output_tokens=20) for n in range(6)]
        for sequence in sequences:
            core.submit(0.0, sequence)
        run_out(core)
        return [one.ended_at for one in sequences]

    assert ends(1) == ends(1)
    assert ends(1) != ends(2)


def test_who_comes_while_it_is_held_starts_when_it_goes_on() -> None:
    """Those that ran are gone: the newcomer does not wait for the steps they would have taken."""
    core = SimulatedCore(PARAMETERS, random.Random(0))
    core.submit(0.0, Sequence_(key="old", prompt_tokens=10, output_tokens=2000))
    core.step(0.5)
    core.hold(0.5)
    core.abort(3.0, "old")
    new = Sequence_(key="new", prompt_tokens=10, output_tokens=3)
    core.submit(9.0, new)
    assert core.next_event_at() == NEVER
    core.release(10.0)
    run_out(core)
    assert new.first_at is not None
    assert new.first_at < 10.1
