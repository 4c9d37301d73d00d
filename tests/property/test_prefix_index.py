"""Rule: the prefix index answers as a plain list of blocks per worker would, and never holds more than it may.

However the work is cut into slices: what was cleared, forgotten or let go never matches again, from the next call on.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.ids import WorkerId
from router.scheduling.estimators import block_bits, prefix_index, use_log
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.placement.candidates import InstanceKey

KEYS = [InstanceKey(WorkerId(f"w{k}"), "m", "q8_0") for k in range(12)]
BLOCKS = 31
prompts = st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=8, unique=True)
actions = st.lists(
    st.tuples(
        st.sampled_from(["dispatched", "stored", "evicted", "cleared", "forgotten", "aged", "withdrawn", "swept"]),
        st.sampled_from(KEYS),
        prompts,
    ),
    max_size=40,
)

AGE_S = 10.0
SLICES = (1, 3, prefix_index.SLICE)


class Plain:
    """What the index stands for: per worker the blocks it vouched for, and those guessed with when; oldest first."""

    def __init__(self, index: PrefixIndex, capacity: int = 10**6, instance_blocks: int = 10**6) -> None:
        self.index = index
        self.capacity = capacity
        self.instance_blocks = instance_blocks
        self.confirmed: dict[InstanceKey, OrderedDict[int, None]] = {key: OrderedDict() for key in KEYS}
        self.guessed: dict[InstanceKey, OrderedDict[int, float]] = {key: OrderedDict() for key in KEYS}

    def do(self, what: str, key: InstanceKey, blocks: list[int], now: float) -> None:
        """One action."""
        confirmed, guessed = self.confirmed[key], self.guessed[key]
        if what == "dispatched":
            for block in reversed(blocks):
                if block in confirmed:
                    confirmed.move_to_end(block)
                else:
                    guessed[block] = now
                    guessed.move_to_end(block)
        elif what == "stored":
            for block in blocks:
                guessed.pop(block, None)
                confirmed[block] = None
                confirmed.move_to_end(block)
        elif what in ("evicted", "withdrawn"):
            for block in blocks:
                guessed.pop(block, None)
                if what == "evicted":
                    confirmed.pop(block, None)
        elif what == "aged":
            for block in [block for block, at in guessed.items() if at <= now - AGE_S]:
                del guessed[block]
        elif what in ("cleared", "forgotten"):
            confirmed.clear()
            guessed.clear()
        self.shrink(key)

    def shrink(self, key: InstanceKey) -> None:
        """To the bounds: an instance's own, then that over all, where it costs the largest something."""
        self.drop(key, self.size(key) - self.instance_blocks)
        while (excess := len(self) - self.capacity) > 0:
            known = [key for key in KEYS if self.size(key)]
            largest = max(known, key=lambda one: (self.size(one), -self.index.index_row(one)))
            self.drop(largest, min(excess, max(self.size(largest) // 16, 1)))

    def drop(self, key: InstanceKey, count: int) -> None:
        """Its oldest, guesses first."""
        for _ in range(count):
            (self.guessed[key] or self.confirmed[key]).popitem(last=False)

    def size(self, key: InstanceKey) -> int:
        """Blocks of one instance."""
        return len(self.confirmed[key]) + len(self.guessed[key])

    def depth(self, key: InstanceKey, prompt: list[int]) -> int:
        """Leading blocks of the prompt that the worker holds."""
        held = self.confirmed[key].keys() | self.guessed[key].keys()
        return next((depth for depth, block in enumerate(prompt) if block not in held), len(prompt))

    def __len__(self) -> int:
        return sum(self.size(key) for key in KEYS)


def do(index: PrefixIndex, what: str, key: InstanceKey, blocks: list[int], now: float) -> None:
    """The same action."""
    match what:
        case "dispatched":
            index.dispatched(key, blocks, now)
        case "stored":
            index.published(key, blocks, (), cleared=False)
        case "evicted":
            index.published(key, (), blocks, cleared=False)
        case "cleared":
            index.published(key, (), (), cleared=True)
        case "forgotten":
            index.forget(key)
        case "withdrawn":
            index.withdrawn(key, blocks)
        case "swept":
            index.sweep()
        case _:
            for _ in range(BLOCKS):  # a slice at a time
                index.expire(key, now)


@contextmanager
def in_slices_of(entries: int) -> Iterator[None]:
    """All work that can wait, so that a few blocks are many."""
    with patch.object(prefix_index, "SLICE", entries), patch.object(block_bits, "SLICE", entries):
        yield


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    history=actions,
    asked=prompts,
    capacity=st.sampled_from([10, 40, 10**6]),
    per_instance=st.sampled_from([8, 10**6]),
    entries=st.sampled_from(SLICES),
)
def test_it_matches_what_a_plain_list_of_blocks_matches(
    history: list[tuple[str, InstanceKey, list[int]]], asked: list[int], capacity: int, per_instance: int, entries: int
) -> None:
    """After every action, for every worker: the same blocks went, at the bounds too."""
    index = PrefixIndex(capacity_blocks=capacity, instance_blocks=per_instance, age_s=AGE_S)
    plain = Plain(index, capacity, per_instance)
    with in_slices_of(entries), patch.object(use_log, "TIDY_SLACK", 2):
        for at, (what, key, blocks) in enumerate(history):
            do(index, what, key, blocks, float(at))
            plain.do(what, key, blocks, float(at))
            assert len(index) == len(plain) <= capacity
            rows = {key: index.index_row(key) for key in KEYS}
            depths = index.match(asked)
            for one in KEYS:
                assert (0 if depths is None else depths[rows[one]]) == plain.depth(one, asked)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(history=actions, entries=st.sampled_from(SLICES))
def test_all_is_given_back_when_all_are_forgotten(
    history: list[tuple[str, InstanceKey, list[int]]], entries: int
) -> None:
    """Nothing is left over after the last slice, and no instance's bits were lost: they serve the next ones."""
    index = PrefixIndex(age_s=AGE_S)
    with in_slices_of(entries):
        for at, (what, key, blocks) in enumerate(history):
            do(index, what, key, blocks, float(at))
        for key in KEYS:
            index.forget(key)
        while index.sweep():
            pass
    assert len(index) == 0
    assert index.hashes == 0
    for block in range(2):
        for key in KEYS:
            index.dispatched(key, [block], 0.0)
    assert index.rows == len(KEYS)
    assert index.match([0, 1]).tolist() == [2.0] * len(KEYS)


def test_a_large_instance_is_erased_in_slices() -> None:
    """It matches no more from the call on; its memory goes a slice at a time, whoever is asked meanwhile."""
    index = PrefixIndex()
    for key in KEYS[:2]:
        index.index_row(key, 100_000)
        for start in range(0, 50_000, 1000):
            index.dispatched(key, range(start, start + 1000), 0.0)
    index.published(KEYS[0], (), (), cleared=True)
    assert (len(index), index.hashes) == (50_000, 50_000)
    index.forget(KEYS[1])
    assert (len(index), index.hashes) == (0, 50_000)
    slices = 0
    while index.sweep():
        slices += 1
        assert index.match([0, 1]) is None
    assert index.hashes == 0
    assert slices > 50_000 / prefix_index.SLICE / 2


def test_workers_that_come_and_go_faster_than_anybody_sweeps_stay_within_twice_the_bound() -> None:
    """Then it is erased at once: memory is bounded, whatever is called."""
    index = PrefixIndex(capacity_blocks=10_000)
    for number in range(30):
        index.dispatched(KEYS[0], range(10_000 * number, 10_000 * (number + 1)), 0.0)
        index.forget(KEYS[0])
        assert index.hashes <= 20_000


def test_later_blocks_of_a_prompt_go_before_earlier_ones() -> None:
    """As engines evict them: a prefix without its beginning is worth nothing."""
    index = PrefixIndex(instance_blocks=6)
    index.dispatched(KEYS[0], [1, 2, 3, 4], 0.0)
    index.dispatched(KEYS[0], [11, 12, 13, 14], 1.0)
    first, second = index.match([1, 2, 3, 4]), index.match([11, 12, 13, 14])
    assert first is not None
    assert second is not None
    assert (first[0], second[0]) == (2, 4)


def test_what_a_worker_vouched_for_does_not_age() -> None:
    """What was only dispatched does."""
    index = PrefixIndex(age_s=AGE_S)
    index.published(KEYS[0], [1, 2], (), cleared=False)
    index.dispatched(KEYS[0], [1, 2, 3], 0.0)
    index.expire(KEYS[0], 1000.0)
    depths = index.match([1, 2, 3])
    assert depths is not None
    assert depths[0] == 2
