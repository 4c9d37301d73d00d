"""The outcome of placing a request: values, not exceptions."""

from dataclasses import dataclass, field

from router.domain.ids import WorkerId

NAMED = 4
"""Exclusions that a client is told one by one; of more it is told how many there are of each kind."""

LONGEST_REASON = 600

EXAMPLES = 3
LONGEST_EXAMPLE = 160

_KINDS = {
    "model": "not serving the model",
    "pin": "holding another quantization",
    "quality": "below the quality floor",
    "labels": "without a label the request needs",
    "capability": "not able to do what the request asks",
    "context": "with too short a context",
    "failed": "where the model failed to load",
    "state": "not ready",
    "cordon": "cordoned",
    "suspended": "set aside after failures",
    "probing": "proving themselves after failures",
    "kv": "without room in their KV cache",
    "avoid": "full, or tried before",
}
"""Filters in a client's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Why one worker (or one of its models) was not a candidate."""

    worker_id: WorkerId
    node: str
    filter: str  # the filter's name: "model", "state", "context", ...
    reason: str  # one line, for people
    quantization: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What placement expects of the choice, in seconds."""

    wait_s: float = 0.0
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    e2e_s: float = 0.0
    cached_tokens: int = 0
    tpot_alone_s: float = 0.0  # seconds per token there if nothing else ran; 0: not known
    broken: float = 0.0  # requests running there that are expected to miss their TPOT target because of this one


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
    most_pending_tokens: int = 0  # prompt tokens that may stand before it for the choice to be good; 0: any number


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCandidate:
    """No worker can take the request; one reason per excluded worker."""

    model: str
    exclusions: tuple[Exclusion, ...] = ()
    known_model: bool = True  # False: no worker ever served this model
    returning: bool = False  # the router has just started, and workers of the model may not be back yet

    def reasons(self) -> str:
        """Why, in one line of bounded length, for an error message: each worker's reason in a small pool, in a large
        one how many there are of each kind, with a few examples. All of them, ``exclusions``, are for operators.
        """
        if not self.exclusions:
            return "no worker is in the pool"
        if len(self.exclusions) <= NAMED:
            return "; ".join(_named(one, LONGEST_REASON) for one in self.exclusions)
        kinds: dict[str, list[Exclusion]] = {}
        for one in self.exclusions:
            kinds.setdefault(one.filter, []).append(one)
        # Workers of other models say the least.
        order = sorted(kinds, key=lambda kind: (kind == "model", -len(kinds[kind])))
        parts = []
        for place, kind in enumerate(order):
            example = f" (such as {_named(kinds[kind][0], LONGEST_EXAMPLE)})" if place < EXAMPLES else ""
            parts.append(f"{len({one.worker_id for one in kinds[kind]})} {_KINDS.get(kind, kind)}{example}")
        return f"of {len({one.worker_id for one in self.exclusions})} workers, " + ", ".join(parts)


def _named(one: Exclusion, longest: int) -> str:
    held = f"@{one.quantization}" if one.quantization else ""
    reason = one.reason if len(one.reason) <= longest else one.reason[:longest] + "…"
    return f"{one.node}{held}: {reason}"


PlacementResult = Placed | NoCandidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What then happened to one attempt; closes the decision record and teaches the predictor."""

    finished_at: float = 0.0  # monotonic
    ttft_s: float | None = None  # dispatch to first token; None: none came
    e2e_s: float = 0.0  # dispatch to the end
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    ending: str = "stop"  # stop, length, aborted, refused, conflict, returned, lost, error
