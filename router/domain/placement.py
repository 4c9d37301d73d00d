"""The outcome of placing a request: values, not exceptions."""

from dataclasses import dataclass, field

from router.domain.ids import WorkerId


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NoCandidate:
    """No worker can take the request; one reason per excluded worker."""

    model: str
    exclusions: tuple[Exclusion, ...] = ()
    known_model: bool = True  # False: no worker ever served this model

    def reasons(self) -> str:
        """All reasons in one line, for an error message."""
        if not self.exclusions:
            return "no worker is in the pool"
        return "; ".join(
            f"{e.node}{'@' + e.quantization if e.quantization else ''}: {e.reason}" for e in self.exclusions
        )


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
    ending: str = "stop"  # stop, length, aborted, refused, returned, lost, error
