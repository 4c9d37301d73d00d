"""Rule: the prefix index answers as a plain set of blocks per worker would, and never holds more than it may."""

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.ids import WorkerId
from router.scheduling.estimators.prefix_index import PrefixIndex
from router.scheduling.placement.candidates import InstanceKey

KEYS = [InstanceKey(WorkerId(f"w{k}"), "m", "q8_0") for k in range(12)]
prompts = st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True)
actions = st.lists(
    st.tuples(
        st.sampled_from(["dispatched", "stored", "evicted", "cleared", "forgotten", "aged", "withdrawn"]),
        st.sampled_from(KEYS),
        prompts,
    ),
    max_size=40,
)

AGE_S = 10.0


class Plain:
    """What the index stands for: per worker the blocks it vouched for, and those guessed with when."""

    def __init__(self) -> None:
        self.confirmed: dict[InstanceKey, set[int]] = {key: set() for key in KEYS}
        self.guessed: dict[InstanceKey, dict[int, float]] = {key: {} for key in KEYS}

    def do(self, what: str, key: InstanceKey, blocks: list[int], now: float) -> None:
        """One action."""
        confirmed, guessed = self.confirmed[key], self.guessed[key]
        if what == "dispatched":
            guessed.update({block: now for block in blocks if block not in confirmed})
        elif what == "stored":
            confirmed.update(blocks)
            for block in blocks:
                guessed.pop(block, None)
        elif what == "evicted":
            confirmed.difference_update(blocks)
            for block in blocks:
                guessed.pop(block, None)
        elif what == "withdrawn":
            for block in blocks:
                guessed.pop(block, None)
        elif what == "aged":
            self.guessed[key] = {block: at for block, at in guessed.items() if at > now - AGE_S}
        else:
            confirmed.clear()
            guessed.clear()

    def depth(self, key: InstanceKey, prompt: list[int]) -> int:
        """Leading blocks of the prompt that the worker holds."""
        held = self.confirmed[key] | self.guessed[key].keys()
        return next((depth for depth, block in enumerate(prompt) if block not in held), len(prompt))

    def __len__(self) -> int:
        return sum(len(self.confirmed[key] | self.guessed[key].keys()) for key in KEYS)


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
        case _:
            index.expire(key, now)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(history=actions, asked=prompts)
def test_it_matches_what_a_plain_set_of_blocks_matches(
    history: list[tuple[str, InstanceKey, list[int]]], asked: list[int]
) -> None:
    """Whatever happened before, for every worker."""
    index, plain = PrefixIndex(age_s=AGE_S), Plain()
    for at, (what, key, blocks) in enumerate(history):
        do(index, what, key, blocks, float(at))
        plain.do(what, key, blocks, float(at))
    assert len(index) == len(plain)
    slots = {key: index.slot_of(key) for key in KEYS}
    depths = index.match(asked)
    for key in KEYS:
        assert (0 if depths is None else depths[slots[key]]) == plain.depth(key, asked)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(history=actions, capacity=st.integers(8, 40), per_instance=st.integers(8, 20))
def test_it_never_holds_more_than_its_bounds(
    history: list[tuple[str, InstanceKey, list[int]]], capacity: int, per_instance: int
) -> None:
    """Over all, and for each worker; what is left is a part of what a plain set would hold."""
    index, plain = PrefixIndex(capacity_blocks=capacity, instance_blocks=per_instance, age_s=AGE_S), Plain()
    for at, (what, key, blocks) in enumerate(history):
        do(index, what, key, blocks, float(at))
        plain.do(what, key, blocks, float(at))
        assert len(index) <= min(capacity, len(plain))


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
