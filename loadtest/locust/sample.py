"""What is kept of each request: the raw sample, one JSON line of ``samples.jsonl``."""

import msgspec


class Sample(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request's way. Times are seconds from the run's start, on the generator's clock.

    ``due_s``: when it was to be sent; ``sent_s``: when that began; ``written_s``: when the whole request was handed to
    a connection, which may have had to be opened first. In an open loop what the client waits counts from ``due_s``,
    however late the generator was; a closed loop has no schedule, and there it is ``sent_s``.
    """

    kind: str  # the workload
    session: int
    turn: int
    due_s: float
    sent_s: float
    written_s: float | None = None
    first_s: float | None = None  # the first event that carried output
    ended_s: float = 0.0
    status: int = 0  # HTTP; 0: no answer
    error: str = ""  # empty: complete
    code: str = ""  # the error's code: of a shed, its reason
    prompt_tokens: int = 0  # by the server's usage, as are the next two
    cached_tokens: int = 0
    completion_tokens: int = 0
    events: int = 0  # that carried output: one may hold many tokens
    gaps_ms: list[float] = []  # between those events
    worker: str = ""
    quantization: str = ""
    request_id: str = ""
    continuations: int = 0
    finish_reason: str = ""
    valid_json: bool | None = None  # where JSON was asked for
    server_ttft_s: float | None = None  # what the endpoint says of it, if it does

    @property
    def ok(self) -> bool:
        """Answered to the end."""
        return not self.error

    @property
    def shed(self) -> bool:
        """Refused before any work, to be tried again: 429, 503, or 504 without a word."""
        return self.first_s is None and self.status in (429, 503, 504)

    @property
    def lateness_s(self) -> float:
        """How long after its time the generator sent it."""
        return self.sent_s - self.due_s

    @property
    def ttft_s(self) -> float | None:
        """From when it was due to the first output."""
        return None if self.first_s is None else self.first_s - self.due_s

    @property
    def sent_ttft_s(self) -> float | None:
        """From when it was written: what the server is to be compared with, which does not see connections opened."""
        if self.first_s is None:
            return None
        return self.first_s - (self.sent_s if self.written_s is None else self.written_s)

    @property
    def e2e_s(self) -> float:
        """From when it was due to the end."""
        return self.ended_s - self.due_s

    @property
    def tpot_s(self) -> float | None:
        """(E2E - TTFT) / (output tokens - 1); None without a second token."""
        if self.first_s is None or self.completion_tokens < 2:
            return None
        return (self.ended_s - self.first_s) / (self.completion_tokens - 1)


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as in time, in seconds; None: no target."""

    ttft_s: float | None = 2.0
    ttft_per_prompt_token_s: float = 0.001
    tpot_s: float | None = 0.1
    e2e_s: float | None = None

    def met_by(self, sample: Sample) -> bool:
        """Complete, and inside every target."""
        ttft, tpot = sample.ttft_s, sample.tpot_s
        if not sample.ok or ttft is None:
            return False
        allowed = None if self.ttft_s is None else self.ttft_s + self.ttft_per_prompt_token_s * sample.prompt_tokens
        return (
            (allowed is None or ttft <= allowed)
            and (self.tpot_s is None or tpot is None or tpot <= self.tpot_s)
            and (self.e2e_s is None or sample.e2e_s <= self.e2e_s)
        )

    def as_told(self) -> dict[str, float]:
        """As a request of ours carries it."""
        told = {"ttft_s": self.ttft_s, "ttft_per_prompt_token_s": self.ttft_per_prompt_token_s, "tpot_s": self.tpot_s}
        return {name: value for name, value in told.items() if value}

    def __str__(self) -> str:
        parts = []
        if self.ttft_s is not None:
            parts.append(f"TTFT {self.ttft_s:g} s + {1000 * self.ttft_per_prompt_token_s:g} ms per prompt token")
        if self.tpot_s is not None:
            parts.append(f"TPOT {1000 * self.tpot_s:g} ms")
        if self.e2e_s is not None:
            parts.append(f"E2E {self.e2e_s:g} s")
        return ", ".join(parts) or "complete answers"
