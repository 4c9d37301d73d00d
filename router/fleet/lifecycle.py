"""A worker's life as a pure state machine: an event comes in, the next state and what to do about it come out.

``enrolled → loading → benchmarking → ready ⇄ asleep``, ``ready ⇄ draining``, anything ``→ gone``. Every transition is
in one table; anything else raises ``ImpossibleTransition``, so that a hole in the table is a bug found by a test, not a
worker in limbo. A cordon is not a state: it is an operator's decision that lies beside it and survives restarts.
"""

from dataclasses import dataclass
from enum import StrEnum

from router.domain.worker import WorkerState


class Event(StrEnum):
    """What can happen to a worker."""

    HELLO = "hello"  # a session opened (again)
    MODEL_LOADING = "model_loading"
    MODEL_BENCHMARKING = "model_benchmarking"
    MODEL_READY = "model_ready"
    ALL_MODELS_FAILED = "all_models_failed"
    SLEEPING = "sleeping"  # announced: the lid closes
    AWAKE = "awake"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    SESSION_LOST = "session_lost"
    BYE = "bye"  # announced: the process ends
    REVOKED = "revoked"


class Command(StrEnum):
    """What the fleet must do about a transition."""

    MOVE_STREAMS = "move_streams"  # what runs there must go on elsewhere
    FORGET_CACHE = "forget_cache"  # its prefix cache is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The next state and what to do."""

    state: WorkerState
    commands: tuple[Command, ...] = ()


class ImpossibleTransition(ValueError):
    """The event cannot happen in that state."""

    def __init__(self, state: WorkerState, event: Event) -> None:
        super().__init__(f"a worker that is {state} cannot see '{event}'")
        self.state = state
        self.event = event


_S, _E, _C = WorkerState, Event, Command
_LIVE = (_S.ENROLLED, _S.LOADING, _S.BENCHMARKING, _S.READY, _S.ASLEEP, _S.DRAINING)
_RISING = (_S.ENROLLED, _S.LOADING, _S.BENCHMARKING, _S.READY)


def _table() -> dict[tuple[WorkerState, Event], Transition]:
    table: dict[tuple[WorkerState, Event], Transition] = {}

    def add(states: tuple[WorkerState, ...], event: Event, to: WorkerState | None, *commands: Command) -> None:
        for state in states:
            table[state, event] = Transition(state=state if to is None else to, commands=commands)

    # a session opens: a new process starts over; one that was asleep or draining says so itself afterwards
    add((_S.GONE, _S.ENROLLED, *_LIVE), _E.HELLO, _S.ENROLLED)
    # on the way up, the worker's state follows its models'
    add(_RISING, _E.MODEL_LOADING, _S.LOADING)
    add(_RISING, _E.MODEL_BENCHMARKING, _S.BENCHMARKING)
    add(_RISING, _E.MODEL_READY, _S.READY)
    add(_RISING, _E.ALL_MODELS_FAILED, _S.ENROLLED)
    # asleep and draining: models may still report, nothing changes
    for event in (_E.MODEL_LOADING, _E.MODEL_BENCHMARKING, _E.MODEL_READY, _E.ALL_MODELS_FAILED):
        add((_S.ASLEEP, _S.DRAINING), event, None)
    add(_LIVE, _E.SLEEPING, _S.ASLEEP, _C.MOVE_STREAMS)
    add((_S.ASLEEP,), _E.AWAKE, _S.READY)
    add(_RISING, _E.AWAKE, None)
    add((_S.DRAINING,), _E.AWAKE, _S.READY)
    add(_RISING, _E.DRAIN, _S.DRAINING)
    add((_S.DRAINING,), _E.DRAIN, _S.DRAINING)
    add((_S.ASLEEP,), _E.DRAIN, _S.DRAINING)  # it woke up, drained as before
    add((_S.DRAINING,), _E.UNDRAIN, _S.READY)
    add((*_RISING, _S.ASLEEP), _E.UNDRAIN, None)
    # the session is the lease; an announced sleeper may drop it and stays asleep
    add((*_RISING, _S.DRAINING), _E.SESSION_LOST, _S.GONE, _C.MOVE_STREAMS, _C.FORGET_CACHE)
    add((_S.ASLEEP,), _E.SESSION_LOST, _S.ASLEEP)
    add(_LIVE, _E.BYE, _S.GONE, _C.MOVE_STREAMS, _C.FORGET_CACHE)
    add((*_LIVE, _S.GONE), _E.REVOKED, _S.GONE, _C.MOVE_STREAMS, _C.FORGET_CACHE)
    add((_S.GONE,), _E.SESSION_LOST, None)
    add((_S.GONE,), _E.BYE, None)
    return table


TABLE = _table()
"""Every transition there is."""


def advance(state: WorkerState, event: Event) -> Transition:
    """The transition for ``event`` in ``state``; raises ImpossibleTransition when the table has none.

    >>> advance(WorkerState.READY, Event.SLEEPING).commands
    (<Command.MOVE_STREAMS: 'move_streams'>,)
    >>> advance(WorkerState.GONE, Event.MODEL_READY)
    Traceback (most recent call last):
        ...
    router.fleet.lifecycle.ImpossibleTransition: a worker that is gone cannot see 'model_ready'
    """
    transition = TABLE.get((state, event))
    if transition is None:
        raise ImpossibleTransition(state, event)
    return transition
