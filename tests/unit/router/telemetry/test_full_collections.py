"""When all objects are looked through: when it is due and cheap, or due for long."""

import gc
import subprocess
import sys

import pytest

from router.domain.clock import ManualClock
from router.telemetry import full_collections
from router.telemetry.full_collections import GROWN_BYTES, PATIENCE_S, FullCollections, resident_bytes


class _Memory:
    """What the process has, as the test says."""

    def __init__(self) -> None:
        self.now = 100 * 2**20

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A note for each full collection, instead of one."""
    done: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: done.append(1))
    monkeypatch.setattr(gc, "get_count", lambda: (0, 0, 0))
    return done


def watched(memory: _Memory, clock: ManualClock) -> FullCollections:
    made = FullCollections(settled=lambda: True, now=clock.now, memory_bytes=memory)
    made._memory_then = memory()
    return made


def test_nothing_is_looked_through_while_nothing_grew(collected: list[int]) -> None:
    clock, memory = ManualClock(), _Memory()
    one = watched(memory, clock)
    memory.now += GROWN_BYTES
    assert not one.look()
    assert not collected


@pytest.mark.parametrize("why", ["memory", "objects"])
def test_it_is_done_at_once_where_it_is_cheap(collected: list[int], monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """Whatever made it due."""
    monkeypatch.setattr(full_collections, "CHEAP_OBJECTS", 10**9)
    clock, memory = ManualClock(), _Memory()
    one = watched(memory, clock)
    if why == "memory":
        memory.now += GROWN_BYTES + 1
    else:
        monkeypatch.setattr(gc, "get_count", lambda: (0, 0, full_collections.ENOUGH_COLLECTIONS))
    assert one.look()
    assert collected == [1]
    if why == "memory":
        assert not one.look()  # what there is now is what it is measured by


def test_it_waits_for_less_to_look_through_but_not_for_ever(
    collected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_collections, "CHEAP_OBJECTS", 0)
    clock, memory = ManualClock(), _Memory()
    one = watched(memory, clock)
    memory.now += GROWN_BYTES + 1
    for _ in range(3):
        assert not one.look()
        clock.advance(PATIENCE_S / 3 - 0.001)
    assert not collected
    clock.advance(0.01)
    assert one.look()
    assert collected == [1]


def test_a_settled_heap_waits_for_us() -> None:
    """In a process of its own: it is the process's collector."""
    code = (
        "import gc\nfrom router.limits import heap_is_settled, settle_heap\nsettle_heap()\nassert heap_is_settled()\n"
        "seen = []\ngc.callbacks.append(lambda phase, info: seen.append(info['generation']))\n"
        "kept = [[] for _ in range(600_000)]\nassert 1 in seen and 2 not in seen, set(seen)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_the_process_has_is_a_number() -> None:
    assert resident_bytes() > 2**20 or sys.platform != "linux"
