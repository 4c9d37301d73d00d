"""However connections come, wait, are served and go: no more than the limit, and those that are served stay."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.http.server.connection_book import ConnectionBook

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
