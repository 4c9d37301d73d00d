"""However connections come, wait, are served and go: no more than the limit, and those that are served stay."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.domain.clock import ManualClock
from router.http.server.connection_book import AT_ONCE, CROWD, CROWDED_S, ConnectionBook

LIMIT = 5
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


class _Connection:
    def __init__(self, machine: "Doors", address: str) -> None:
        self.machine = machine
        self.address = address
        self.busy = False

    def give_way(self) -> None:
        self.machine.gave_way.append(self)
        self.machine.there.remove(self)


class Doors(RuleBasedStateMachine):
    """Against a plain list of who is there."""

    def __init__(self) -> None:
        super().__init__()
        self.book = ConnectionBook(LIMIT)
        self.there: list[_Connection] = []
        self.gave_way: list[_Connection] = []

    @rule(address=st.sampled_from(ADDRESSES))
    def opens(self, address: str) -> None:
        before = list(self.there)
        new = _Connection(self, address)
        self.there.append(new)
        self.gave_way.clear()
        self.book.opened(new, address)
        if len(before) < LIMIT:
            assert not self.gave_way
            return
        (gone,) = self.gave_way
        waiting = [one for one in (*before, new) if not one.busy]
        counts = {place: sum(one.address == place for one in waiting) for place in ADDRESSES}
        assert counts[gone.address] == max(counts.values())
        assert gone is next(one for one in waiting if one.address == gone.address)  # who came first
        assert not gone.busy

    @rule(data=st.data())
    def asks(self, data: st.DataObject) -> None:
        if self.there:
            one = data.draw(st.sampled_from(self.there))
            one.busy = True
            self.book.busy(one)

    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        if self.there:
            one = data.draw(st.sampled_from(self.there))
            self.there.remove(one)
            self.book.closed(one)
            self.book.closed(one)  # uvicorn may say so twice

    @rule(data=st.data())
    def hears_its_answer(self, data: st.DataObject) -> None:
        busy = [one for one in self.there if one.busy]
        if busy:
            one = data.draw(st.sampled_from(busy))
            one.busy = False
            self.book.waits(one)
            self.there.remove(one)  # waits anew: at the end of the line
            self.there.append(one)

    @invariant()
    def no_more_than_the_limit(self) -> None:
        assert len(self.book) == len(self.there) <= LIMIT


Doors.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestDoors = Doors.TestCase


class _Silent:
    """One that says nothing."""

    def __init__(self, gone: list["_Silent"]) -> None:
        self._gone = gone

    def give_way(self) -> None:
        self._gone.append(self)


def crowd(book: ConnectionBook, count: int, address: str, gone: list[_Silent]) -> list[_Silent]:
    made = [_Silent(gone) for _ in range(count)]
    for one in made:
        book.opened(one, address)
    return made


@given(count=st.integers(0, 3 * AT_ONCE), others=st.integers(0, 20), asking=st.integers(0, 2 * AT_ONCE))
@settings(max_examples=40)
def test_a_crowd_behind_one_address_is_thinned_out(count: int, others: int, asking: int) -> None:
    """Down to what may wait there: who has waited longest goes, some at a time, and nobody who asks, nor of another
    address.
    """
    clock, gone = ManualClock(), []
    book = ConnectionBook(100_000, clock.now)
    there = crowd(book, CROWD + count, "10.0.0.1", gone)
    crowd(book, others, "10.0.0.2", gone)
    for one in there[:asking]:
        book.busy(one)
    clock.advance(CROWDED_S)
    over = max(0, count - asking)
    turns = 0
    while book.crowded and turns < 10:
        book.thin_out()
        turns += 1
        assert len(gone) <= turns * AT_ONCE
    assert gone == there[asking : asking + over]
    assert turns <= 1 + over // AT_ONCE
    assert len(book) == CROWD + count + others - over


def test_a_crowd_that_has_just_come_may_ask() -> None:
    """Just at the bound nobody goes, whatever the time; above it nobody before it."""
    clock, gone = ManualClock(), []
    book = ConnectionBook(100_000, clock.now)
    there = crowd(book, CROWD, "10.0.0.1", gone)
    clock.advance(10 * CROWDED_S)
    assert not book.crowded
    late = crowd(book, 1, "10.0.0.1", gone)
    assert book.crowded
    book.thin_out()
    assert gone == there[:1]
    gone.clear()
    book = ConnectionBook(100_000, clock.now)
    there = crowd(book, CROWD + 1, "10.0.0.1", gone)
    clock.advance(CROWDED_S - 0.001)
    book.thin_out()
    assert not gone
    assert book.crowded
    assert late
