"""Rule: what placement remembers is bounded, however much passes through it: ten million blocks, many decisions."""

import gc
import random
import sys
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType

import numpy as np
import pytest

from protos.contract.ids import WorkerId
from router.domain.placement import Exclusions, Outcome, Prediction
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.estimators.tpot_lead import MAX_RUNS, SlackTracker
from router.scheduling.explain.record import Decision, RecordBook
from router.scheduling.placement.candidates import Candidates, InstanceKey, RequestFacts, Scores
from router.scheduling.placement.columns import COLUMNS

BLOCKS = 10_000_000
PROMPT = 250  # blocks: 16,000 tokens
CAPACITY = 200_000
INSTANCES = 40
MIB = 2**20
LEAK_BYTES = 24 * MIB
"""Ten million blocks at even four bytes each would be more."""
LEAK_OBJECTS = 1_000_000
"""Eight million blocks pass between the two looks; one object kept of each would be eight times more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a thing holds, and how many objects live in this process: counts, which no allocator's habits change."""

    held_bytes: int
    objects: int

    @classmethod
    def of(cls, thing: object) -> "Kept":
        gc.collect()
        return cls(held_bytes(thing), sys.getallocatedblocks())

    def more_than(self, early: "Kept") -> tuple[bool, bool]:
        """Whether more was kept than the bounds allow: bytes, objects."""
        return self.held_bytes - early.held_bytes > LEAK_BYTES, self.objects - early.objects > LEAK_OBJECTS


def held_bytes(thing: object) -> int:
    """Bytes of everything that can be reached from it, without code."""
    seen: set[int] = set()
    total, waiting = 0, [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, ModuleType, FunctionType, BuiltinFunctionType)):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


def test_what_is_kept_is_measured() -> None:
    """A leak of four bytes a block, or of one object a block, is seen; a thing as large as before is none."""
    early = Kept.of({})
    assert Kept.of({"blocks": np.zeros(BLOCKS, dtype=np.int32)}).more_than(early) == (True, False)
    assert Kept.of([float(n) for n in range(2 * LEAK_OBJECTS)]).more_than(early) == (True, True)
    assert Kept.of({}).more_than(early) == (False, False)


@pytest.mark.timeout(600)
def test_ten_million_blocks_leave_the_prefix_index_within_its_bound() -> None:
    """Dispatched, published, evicted, aged, workers that come and go; entries and bytes stay where they were."""
    index = PrefixIndex(capacity_blocks=CAPACITY, instance_blocks=CAPACITY // 16, age_s=100.0)
    rng = random.Random(1)
    keys = [InstanceKey(WorkerId(f"w{k}"), "m", "q8_0") for k in range(INSTANCES)]
    early: Kept | None = None
    passed, number, most = 0, 0, 0
    while passed < BLOCKS:
        number += 1
        key = keys[number % INSTANCES]
        first = rng.getrandbits(62)
        own = range(first, first + PROMPT - 50)
        shared = 50 * (number % 97)
        prompt = (*range(shared, shared + 50), *own)  # one of 97 system prompts, then its own
        if number % 5:
            index.dispatched(key, prompt, float(number) / 100)
        else:
            index.published(key, prompt, own[:100] if number % 10 else (), cleared=False)
        passed += len(prompt)
        if number % 16 == 0:
            index.expire(key, float(number) / 100)
        if number % 1000 == 0:
            index.forget(key)
        most = max(most, len(index))
        if early is None and passed > BLOCKS // 5:
            early = Kept.of(index)
    assert 0.5 * CAPACITY < most <= CAPACITY
    assert index.rows <= INSTANCES
    assert early is not None
    assert early.held_bytes > 50 * len(index), "the index is not seen"
    assert Kept.of(index).more_than(early) == (False, False)
    for key in keys:
        index.forget(key)
    assert len(index) == 0
    assert index.match(range(50)) is None


def decision(number: int, candidates: int) -> Decision:
    """One among so many."""
    keys = tuple(InstanceKey(WorkerId(f"w{k}"), "m", "q8_0") for k in range(candidates))
    cost = np.arange(candidates, dtype=np.float64)
    return Decision(
        request_id=f"r{number}",
        policy="cost",
        parameters={},
        whole_pool=False,
        facts=RequestFacts(now=0.0, waited_s=0.0, prompt_tokens=1, output_tokens=1.0),
        candidates=Candidates(keys, tuple(key.worker_id for key in keys), np.zeros((COLUMNS, candidates))),
        inputs={},
        scores=Scores(cost, {"wait": cost}),
        index=0,
        exclusions=Exclusions(),
        margin_s=1.0,
        prediction=Prediction(),
    )


def test_decision_records_stay_within_both_their_bounds() -> None:
    """20,000 decisions of all sizes: never more records nor rows than allowed, and the newest are there."""
    book = RecordBook(capacity=500, capacity_rows=4000)
    rng = random.Random(2)
    early: Kept | None = None
    for number in range(20_000):
        record_id = book.open(decision(number, rng.choice([1, 10, 200])))
        book.close(record_id, Outcome())
        assert len(book) <= 500
        assert book.rows <= 4000
        if number == 5000:
            early = Kept.of(book)
    assert early is not None
    assert book.find("r19999")
    assert not book.find("r0")
    assert Kept.of(book).more_than(early) == (False, False)


def test_requests_whose_end_is_never_told_do_not_pile_up() -> None:
    """A bound of its own for each instance's running requests."""
    book = SlackTracker()
    for number in range(3 * MAX_RUNS):
        book.dispatched(f"r{number}", 0.0, prefill_tokens=1.0, target_s=0.1, ttft_s=1.0, tpot_s=0.05)
    assert len(book) == MAX_RUNS
