"""The outcome of placing a request: values, not exceptions."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Protocol, Self, overload

from protos.contract.ids import WorkerId

NAMED = 4
"""Exclusions that a client is told one by one; of more it is told how many there are of each kind."""

MAX_REASON_CHARS = 600

EXAMPLES = 3
MAX_EXAMPLE_CHARS = 160


class Lifts(Enum):
    """What ends an exclusion, and so what one who waits is waiting for."""

    NEVER = "never"  # no load, however light, and no time: only another request or another fleet
    WHEN_THE_WORKER_CHANGES = "when the worker changes"  # it gets ready, or somebody lets it in again
    WHEN_LOAD_FALLS = "when load falls"  # the worker is there and busy


class FilterName(StrEnum):
    """Every filter of placement. A member carries what its exclusions mean, so that nobody keeps a list of his own.

    ``lifts``: what ends them. ``label``: such workers in a client's words, as in "3 cordoned". ``from_model_name``: the
    client asked for it in the model's name.
    """

    lifts: Lifts
    label: str
    from_model_name: bool

    def __new__(cls, name: str, lifts: Lifts, label: str, from_model_name: bool = False) -> Self:
        """A member is its name; the rest are attributes."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.lifts, member.label, member.from_model_name = lifts, label, from_model_name
        return member

    MODEL = "model", Lifts.NEVER, "not serving the model"
    PIN = "pin", Lifts.NEVER, "holding another quantization", True
    QUALITY = "quality", Lifts.NEVER, "below the quality floor", True
    LABELS = "labels", Lifts.NEVER, "without a label the request needs"
    CAPABILITY = "capability", Lifts.NEVER, "not able to do what the request asks"
    CONTEXT = "context", Lifts.NEVER, "with too short a context"
    FAILED = "failed", Lifts.NEVER, "where the model failed to load"  # until somebody acts
    STATE = "state", Lifts.WHEN_THE_WORKER_CHANGES, "not ready"
    CORDON = "cordon", Lifts.WHEN_THE_WORKER_CHANGES, "cordoned"
    SUSPENDED = "suspended", Lifts.WHEN_THE_WORKER_CHANGES, "set aside after failures"
    PROBING = "probing", Lifts.WHEN_LOAD_FALLS, "proving themselves after failures"
    KV = "kv", Lifts.WHEN_LOAD_FALLS, "without room in their KV cache"
    AVOID = "avoid", Lifts.WHEN_LOAD_FALLS, "full, or tried before"

    @property
    def lasting(self) -> bool:
        """Waiting does not help."""
        return self.lifts is Lifts.NEVER

    @property
    def busy(self) -> bool:
        """The worker would take the request once it has less to do."""
        return self.lifts is Lifts.WHEN_LOAD_FALLS


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Why one worker (or one of its models) was not a candidate."""

    worker_id: WorkerId
    node: str
    filter: FilterName
    reason: str  # one line, for people
    quantization: str = ""
    lacks: tuple[str, ...] = ()  # of what the request needs, by CAPABILITY


class Unwritten(Protocol):
    """Exclusions of which is known by which filter, and which take long to write."""

    def __len__(self) -> int: ...

    def counts(self) -> Mapping[FilterName, int]:
        """How many each filter removed."""
        ...

    def avoided(self) -> Iterable[WorkerId]:
        """Whom ``AVOID`` removed."""
        ...

    def write(self, most: int) -> tuple[Exclusion, ...]:
        """The first so many."""
        ...


class Exclusions(Sequence[Exclusion]):
    """One for each instance that was no candidate. Those not written yet are written when somebody reads them.

    ``omitted``: how many, by filter, are left out.
    """

    __slots__ = ("_later", "_written", "omitted")

    def __init__(
        self,
        written: tuple[Exclusion, ...] = (),
        later: Unwritten | None = None,
        omitted: Mapping[FilterName, int] | None = None,
    ) -> None:
        self._written = written
        self._later = later
        self.omitted = omitted or {}

    def __len__(self) -> int:
        return len(self._written) + (0 if self._later is None else len(self._later))

    @overload
    def __getitem__(self, index: int) -> Exclusion: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Exclusion, ...]: ...
    def __getitem__(self, index: int | slice) -> Exclusion | tuple[Exclusion, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Exclusion]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exclusions) and self._all() == other._all()

    __hash__ = None  # type: ignore[assignment]

    def filters(self, *, apart_from: frozenset[WorkerId] = frozenset()) -> set[FilterName]:
        """Those that removed anybody; ``AVOID`` only where it is somebody not in ``apart_from``."""
        found = {one.filter for one in self._written}
        avoided = {one.worker_id for one in self._written if one.filter is FilterName.AVOID}
        if self._later is not None:
            found.update(self._later.counts())
            avoided.update(self._later.avoided())
        return found if avoided - apart_from else found - {FilterName.AVOID}

    def brief(self, most: int) -> "Exclusions":
        """With at most so many of those not written yet."""
        if self._later is None:
            return self
        few = self._later.write(most)
        omitted = Counter(self._later.counts())
        omitted.subtract(one.filter for one in few)
        return Exclusions(self._written + few, omitted=+omitted)

    def _all(self) -> tuple[Exclusion, ...]:
        if self._later is not None:
            self._written, self._later = self._written + self._later.write(len(self._later)), None
        return self._written


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What placement expects of the choice, in seconds."""

    wait_s: float = 0.0
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    e2e_s: float = 0.0
    cached_tokens: int = 0
    tpot_alone_s: float = 0.0  # seconds per token there if nothing else ran; 0: not known
    expected_slo_violations: float = 0.0  # requests running there that would miss their TPOT target because of this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A worker was chosen."""

    worker_id: WorkerId
    node: str
    model: str
    quantization: str
    prediction: Prediction = field(default_factory=Prediction)
    policy: str = ""
    margin_s: float = 0.0  # cost of the runner-up minus cost of the choice
    record_id: str = ""  # of the decision record, when one was kept
    max_queued_prefill_tokens: int = 0  # that may stand before it for the choice to be good; 0: any number
    decision: object | None = field(default=None, repr=False, compare=False)  # placement's own


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCandidate:
    """No worker can take the request; one reason per excluded worker."""

    model: str
    exclusions: Exclusions = field(default_factory=Exclusions)
    known_model: bool = True  # False: no worker ever served this model
    coming: bool = False  # nobody serves the model now, and it is brought up for who asks
    blocked: str = ""  # an operator wants it, and why it does not come up
    returning: bool = False  # the router has just started, and workers of the model may not be back yet
    longest_context: int = 0  # tokens that the longest context among those asked takes; 0: none was asked, or unbounded

    def reasons(self) -> str:
        """Why, in one line of bounded length, for an error message: each worker's reason in a small pool, in a large
        one how many there are of each kind, with a few examples. All of them, ``exclusions``, are for operators.
        """
        if self.blocked:
            return f"{self.model} cannot be brought up: {self.blocked}"[: 2 * MAX_REASON_CHARS]
        if not self.exclusions:
            return "no worker is in the pool"
        if len(self.exclusions) <= NAMED:
            return "; ".join(_named(one, MAX_REASON_CHARS) for one in self.exclusions)
        kinds: dict[FilterName, list[Exclusion]] = {}
        for one in self.exclusions:
            kinds.setdefault(one.filter, []).append(one)
        # Workers of other models say the least.
        order = sorted(kinds, key=lambda kind: (kind is FilterName.MODEL, -len(kinds[kind])))
        parts = []
        for place, kind in enumerate(order):
            example = f" (such as {_named(kinds[kind][0], MAX_EXAMPLE_CHARS)})" if place < EXAMPLES else ""
            parts.append(f"{len({one.worker_id for one in kinds[kind]})} {kind.label}{example}")
        return f"of {len({one.worker_id for one in self.exclusions})} workers, " + ", ".join(parts)


def _named(one: Exclusion, longest: int) -> str:
    held = f"@{one.quantization}" if one.quantization else ""
    reason = one.reason if len(one.reason) <= longest else one.reason[:longest] + "…"
    return f"{one.node}{held}: {reason}"


PlacementResult = Placed | NoCandidate


class Ending(StrEnum):
    """How one attempt ended, and what that means for what was computed."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"  # the client left
    DEADLINE = "deadline"  # the request's time was up
    RETURNED = "returned"  # the worker gave it back in good order
    LOST = "lost"  # the session broke, the engine failed or hung, or the worker broke a rule
    REFUSED = "refused"  # the worker's no
    CONFLICT = "conflict"  # the choice's precondition did not hold at the worker
    UNSENT = "unsent"  # chosen, and nothing was sent

    @property
    def natural(self) -> bool:
        """The answer is complete."""
        return self in _NATURAL

    @property
    def computed_nothing(self) -> bool:
        """Never sent, or sent and turned away: no engine worked on it."""
        return self in _COMPUTED_NOTHING


_NATURAL = frozenset({Ending.STOP, Ending.LENGTH})
_COMPUTED_NOTHING = frozenset({Ending.UNSENT, Ending.REFUSED, Ending.CONFLICT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What then happened to one attempt; closes the decision record and teaches the predictor.

    >>> Outcome(ending=Ending.ABORTED).computed, Outcome(ending=Ending.ABORTED, ttft_s=0.2).computed
    (False, True)
    """

    finished_at: float = 0.0  # monotonic
    ttft_s: float | None = None  # dispatch to first token; None: none came
    e2e_s: float = 0.0  # dispatch to the end
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    ending: Ending = Ending.STOP

    @property
    def computed(self) -> bool:
        """The prompt was prefilled for all that is known: it was answered, or a first token came."""
        return self.ending.natural or (self.ttft_s is not None and not self.ending.computed_nothing)
