"""A worker's life, driven at random: the machine does what the table says and raises on everything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.domain.worker import WorkerState
from router.fleet.lifecycle import TABLE, Command, Event, ImpossibleTransition, advance

PLACEABLE = {WorkerState.READY}
GIVES_UP_STREAMS = {Event.SLEEPING, Event.SESSION_LOST, Event.BYE, Event.REVOKED}


class Life(RuleBasedStateMachine):
    """Beside the machine runs a model of what must hold, written without looking at the table."""

    def __init__(self) -> None:
        super().__init__()
        self.state = WorkerState.ENROLLED
        self.streams_moved = True  # nothing runs yet
        self.cache = True

    @rule(event=st.sampled_from(Event))
    def happens(self, event: Event) -> None:
        """Any event at any time: an allowed one moves on, any other raises and changes nothing."""
        if (self.state, event) not in TABLE:
            with pytest.raises(ImpossibleTransition) as refusal:
                advance(self.state, event)
            assert (refusal.value.state, refusal.value.event) == (self.state, event)
            return
        self._follow(event)

    def _follow(self, event: Event) -> None:
        transition = advance(self.state, event)
        self.state = transition.state
        for command in transition.commands:
            match command:
                case Command.MOVE_STREAMS:
                    self.streams_moved = True
                case Command.FORGET_CACHE:
                    self.cache = False
        if self.state in PLACEABLE:
            self.streams_moved = False
        if event is Event.HELLO:
            self.cache = True

    @precondition(lambda self: self.state is not WorkerState.GONE)
    @rule()
    def is_revoked(self) -> None:
        """From any live state, at once and with everything moved."""
        self._follow(Event.REVOKED)
        assert self.state is WorkerState.GONE

    @rule()
    def comes_back_and_gets_ready(self) -> None:
        """Whatever happened, a new session leads to ready again."""
        self._follow(Event.HELLO)
        self._follow(Event.MODEL_READY)
        assert self.state is WorkerState.READY

    @invariant()
    def a_gone_worker_keeps_neither_streams_nor_cache(self) -> None:
        """Its streams were moved and its cache forgotten on the way."""
        if self.state is WorkerState.GONE:
            assert self.streams_moved
            assert not self.cache


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase


@given(st.sampled_from(WorkerState), st.sampled_from(Event))
def test_every_transition_not_in_the_table_raises(state: WorkerState, event: Event) -> None:
    """No state swallows an event it does not know."""
    if (state, event) in TABLE:
        assert advance(state, event) == TABLE[state, event]
    else:
        with pytest.raises(ImpossibleTransition, match="cannot see"):
            advance(state, event)


def test_the_table_has_holes_and_no_dead_ends() -> None:
    """Some pairs are impossible (or the test above would prove nothing), and every state can be left."""
    assert any((state, event) not in TABLE for state in WorkerState for event in Event)
    for state in WorkerState:
        assert any(TABLE[state, event].state is not state for event in Event if (state, event) in TABLE), state


def test_streams_move_whenever_a_worker_leaves() -> None:
    """Sleep, loss, goodbye and revocation all give streams up from a placing state; a drain lets them finish."""
    for event in GIVES_UP_STREAMS:
        assert Command.MOVE_STREAMS in TABLE[WorkerState.READY, event].commands
    assert Command.MOVE_STREAMS not in TABLE[WorkerState.READY, Event.DRAIN].commands
