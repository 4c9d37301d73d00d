"""What it costs the event loop that the prefix index forgets: in all, and the longest that streams wait for it.

Seconds of this thread's CPU, and of some rounds the least: on a busy machine the clock tells of others, and so does
what their memory leaves of the caches.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from protos.contract.ids import WorkerId
from router.scheduling.estimators.prefix_index import AGE_S, CAPACITY_BLOCKS, PrefixIndex
from router.scheduling.placement.candidates import InstanceKey

BLOCKS = 262_144
PROMPT = 1000
ROUNDS = 5
DISPATCHES = 200
INSTANCES = 32
MILLION = "a million forgotten"
_KEYS = [InstanceKey(WorkerId(f"worker-{number}"), "model", "q8_0") for number in range(INSTANCES)]
_KEY = _KEYS[0]

Step = Callable[[PrefixIndex], bool]
"""One call, as an event brings it; True while there is more to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Seconds of work in all, and of its longest slice."""

    total_s: float
    slices: int
    longest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatching:
    """Seconds of the middle one of many dispatches, and of the longest."""

    median_s: float
    longest_s: float


def forgetting() -> dict[str, Cost]:
    """By what happens to an instance of 262,144 blocks; the last: to one that holds all that the index may.

    The longest slice is then the last one, in which the allocator gives its arenas back, all at once.
    """
    return {
        "cleared": _forgetting(BLOCKS, _clear),
        "forgotten": _forgetting(BLOCKS, lambda index: index.forget(_KEY)),
        "aged": _forgetting(BLOCKS, lambda index: index.expire(_KEY, 2 * AGE_S)),
        "aged in part": _forgetting(BLOCKS, _keep_one, _expire),
        MILLION: _forgetting(CAPACITY_BLOCKS, lambda index: index.forget(_KEY)),
    }


def dispatching() -> Dispatching:
    """A new prompt of 1,000 blocks each time, with the index at its default bound."""
    index = PrefixIndex()
    rng = random.Random(1)
    for key in _KEYS:
        index.index_row(key, CAPACITY_BLOCKS)
    taken = []
    for number in range(CAPACITY_BLOCKS // PROMPT + ROUNDS * DISPATCHES):
        prompt = _prompt(rng)
        started = time.thread_time()
        index.dispatched(_KEYS[number % INSTANCES], prompt, float(number))
        taken.append(time.thread_time() - started)
    rounds = [taken[-end:][:DISPATCHES] for end in range(DISPATCHES, ROUNDS * DISPATCHES + 1, DISPATCHES)]
    return Dispatching(
        median_s=min(statistics.median(one) for one in rounds), longest_s=min(max(one) for one in rounds)
    )


def _clear(index: PrefixIndex) -> None:
    index.published(_KEY, (), (), cleared=True)


def _keep_one(index: PrefixIndex) -> None:
    """What a worker vouches for does not age, so its blocks are let go of one by one."""
    index.published(_KEY, (0,), (), cleared=False)


def _expire(index: PrefixIndex) -> bool:
    index.expire(_KEY, 2 * AGE_S)
    return len(index) > 1


def _forgetting(blocks: int, begin: Callable[[PrefixIndex], None], go_on: Step = PrefixIndex.sweep) -> Cost:
    found = [list(_slices(_filled(blocks), begin, go_on)) for _ in range(ROUNDS)]
    return Cost(
        total_s=min(sum(one) for one in found),
        slices=len(found[0]),
        longest_s=min(max(one) for one in found),
    )


def _slices(index: PrefixIndex, begin: Callable[[PrefixIndex], None], go_on: Step) -> Iterator[float]:
    started = time.thread_time()
    begin(index)
    yield time.thread_time() - started
    more = True
    while more:
        started = time.thread_time()
        more = go_on(index)
        yield time.thread_time() - started


def _filled(blocks: int) -> PrefixIndex:
    index = PrefixIndex()
    rng = random.Random(1)
    index.index_row(_KEY, blocks)
    while len(index) < blocks:
        index.dispatched(_KEY, _prompt(rng)[: blocks - len(index)], 0.0)
    return index


def _prompt(rng: random.Random) -> list[int]:
    return [rng.getrandbits(64) for _ in range(PROMPT)]
