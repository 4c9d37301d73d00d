"""One request as the scheduler knows it, over all its attempts: what it avoids, what failed, what is left of it."""

from collections import deque
from dataclasses import dataclass, field, replace

from protos.contract.ids import WorkerId
from router.domain.placement import Outcome, Placed
from router.domain.request import InferenceRequest
from router.scheduling.claims import Claim

MAX_CONFLICTS = 2
"""After so many conflicts a request is sent without a precondition: it takes what it gets."""

MAX_CHAPTERS = 64
"""Lines of a request's story; of a longer one the oldest are forgotten."""

BACKOFF_FIRST_S = 0.02
BACKOFF_LONGEST_S = 1.0
"""Between two attempts of a request whose workers were all busy; doubling."""


@dataclass(slots=True)
class TrackedRequest:
    """Mutable; only the scheduler changes it. Without a claim it waits: in admission's queue, or out a back-off."""

    request: InferenceRequest
    claim: Claim | None = None
    backing_off: bool = False
    avoid: set[WorkerId] = field(default_factory=set)  # workers that failed it
    attempts: int = 0
    failures: int = 0  # attempts since the last token that failed otherwise than by a busy worker
    engine_failures: int = 0  # those of them in which a worker's engine erred
    busy: int = 0  # refusals in a row because the worker was full
    conflicts: int = 0  # stale choices; no failures
    moves: int = 0  # workers that took it after another had taken it
    taken: bool = False  # some worker accepted it
    started: bool = False  # the client has something of the answer
    sent_tokens: int = 0  # output tokens the client has
    output_tokens: int | None = None  # computed for it; None: nothing was
    prompt_tokens: int = 0  # exact, once a worker has counted
    output_format: str = ""  # how thoughts and calls are marked in what the client has
    last_failure: str = ""
    story: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MAX_CHAPTERS))

    @property
    def tried(self) -> bool:
        """Some worker had it, or failed it, before: it goes ahead as a continuation does. Conflicts do not count."""
        return self.started or self.attempts > self.conflicts

    def failed(self, placed: Placed, reason: str, *, busy: bool = False) -> None:
        """An attempt came to nothing: remember why, and look elsewhere first."""
        self.busy = self.busy + 1 if busy else 0
        self.failures += 0 if busy else 1
        self.avoid.add(placed.worker_id)
        self.last_failure = f"{placed.node}: {reason}"

    def computed(self, outcome: Outcome) -> None:
        """What all attempts so far brought. An answer's end counts its own attempt, whatever breaks off all of them."""
        if outcome.computed:
            before = self.sent_tokens if outcome.ending.natural else 0
            self.output_tokens = max(self.output_tokens or 0, before + outcome.completion_tokens)

    @property
    def used_tokens(self) -> int:
        """Prompt and output; 0 while nothing was computed for it. A prompt that moves is paid for once."""
        if self.output_tokens is None:
            return 0
        return (self.prompt_tokens or self.request.prompt_tokens_estimate) + self.output_tokens

    def backoff_s(self) -> float:
        """Seconds to wait before the next attempt; 0 unless busy workers refused it."""
        return min(BACKOFF_LONGEST_S, BACKOFF_FIRST_S * 2.0 ** min(self.busy, 10)) if self.busy else 0.0

    def remaining(self) -> InferenceRequest:
        """The request as placement should see it now: counted, once somebody has counted it; after a move a longer
        prompt and fewer tokens to go.
        """
        if not self.started:
            return (
                replace(self.request, prompt_tokens_estimate=self.prompt_tokens) if self.prompt_tokens else self.request
            )
        return replace(
            self.request,
            continues=True,
            output_format=self.output_format,
            prompt_tokens_estimate=(self.prompt_tokens or self.request.prompt_tokens_estimate) + self.sent_tokens,
            expected_output_tokens=max(1, self.request.expected_output_tokens - self.sent_tokens),
        )

    def precondition(self, placed: Placed, *, tried: bool) -> int:
        """Prompt tokens that may stand before it at its worker; 0: any number.

        None for a request that has nowhere else to go (it is pinned), is being answered already, or met so many stale
        choices that it would wander for ever.
        """
        if tried or self.request.model.pinned is not None or self.conflicts >= MAX_CONFLICTS:
            return 0
        return placed.max_queued_prefill_tokens
