"""How far ahead of its TPOT target each running request is: what another prompt's prefill may still take from it.

TPOT is a mean over an answer, so a request that has been served faster than its target can stand still for the time
it is ahead, and one that has not, cannot. Three facts tell: the engine's step count (a decoding sequence gets a token
a step), its prefill progress (a sequence decodes once the prompts before it and its own are prefilled), and the time.
An engine that reports no steps is taken to keep to what was predicted.
"""

from typing import NamedTuple

LATEST_START = 2.0
"""A request counts as decoding when its predicted TTFT has passed so many times, whatever the prefill progress says:
the router's idea of what was cached may have been wrong.
"""

MAX_RUNS = 1024
"""Requests kept per instance; beyond, the oldest is forgotten: its end was never told."""

LOW_SLACK_S = 1.0
"""Who leads by less has *low slack*: about a prompt of a thousand tokens would use it up."""

MISSED_S = 3.0
"""Further behind than this, a request is past saving and has no say any more."""


class Progress(NamedTuple):
    """What a load report says of an engine's progress."""

    at: float
    steps: int
    prefilled: int  # tokens since the engine started
    to_prefill: int  # tokens
    claims: int  # requests that it has not seen yet
    reports_steps: bool


class Slack(NamedTuple):
    """The running requests of one instance that have a TPOT target: how many, and their mean lead in seconds."""

    low: int = 0
    high: int = 0
    low_lead_s: float = 0.0
    high_lead_s: float = 0.0


class _Run:
    __slots__ = ("dispatched_at", "first_at", "first_step", "starts_at_tokens", "target_s", "tpot_s", "ttft_s")

    def __init__(
        self, dispatched_at: float, starts_at_tokens: float, target_s: float, ttft_s: float, tpot_s: float
    ) -> None:
        self.dispatched_at = dispatched_at
        self.starts_at_tokens = starts_at_tokens
        self.target_s = target_s
        self.ttft_s = ttft_s
        self.tpot_s = tpot_s
        self.first_at: float | None = None
        self.first_step = 0


class SlackTracker:
    """The requests that one router replica has at one instance."""

    __slots__ = ("_last", "_runs")

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._last = Progress(0.0, 0, 0, 0, 0, reports_steps=False)

    def __len__(self) -> int:
        return len(self._runs)

    def dispatched(
        self, request_id: str, now: float, *, prefill_tokens: float, target_s: float, ttft_s: float, tpot_s: float
    ) -> None:
        """``prefill_tokens``: to be prefilled before it decodes, those before it and its own; the rest as predicted."""
        if len(self._runs) >= MAX_RUNS:
            del self._runs[next(iter(self._runs))]
        self._runs[request_id] = _Run(now, self._last.prefilled + prefill_tokens, target_s, ttft_s, tpot_s)

    def finished(self, request_id: str) -> None:
        """It ended. Unknown ids are ignored."""
        self._runs.pop(request_id, None)

    def again(self, token_s: float) -> Slack:
        """How all stand as of the last load report; see ``observed``."""
        return self.observed(self._last, token_s)

    def observed(self, progress: Progress, token_s: float) -> Slack:
        """A load report: whose first token came since the last one, and how all stand. ``token_s``: seconds that the
        prefill of a token takes.
        """
        if progress.prefilled < self._last.prefilled:  # the engine started anew
            self._runs.clear()
        self._last = progress
        now, steps, prefilled, to_prefill, claims, told = progress
        idle = to_prefill == 0 and claims == 0
        low, low_s, high, high_s = 0, 0.0, 0, 0.0
        for run in self._runs.values():
            first_at = run.first_at
            if first_at is None and (
                idle
                or (told and prefilled >= run.starts_at_tokens)
                or now >= run.dispatched_at + LATEST_START * run.ttft_s
            ):
                first_at, run.first_at, run.first_step = now, now, steps
            if first_at is None:
                # It decodes only after what is prefilled before it: that much of the pending prefill is not its stall.
                lead = max(run.starts_at_tokens - prefilled, 0.0) * token_s
            elif told:
                lead = run.target_s * (steps - run.first_step) - now + first_at
            else:
                lead = (run.target_s / run.tpot_s - 1.0) * (now - first_at)
            if lead >= LOW_SLACK_S:
                high, high_s = high + 1, high_s + lead
            elif lead > -MISSED_S:
                low, low_s = low + 1, low_s + lead
        return Slack(low, high, low_s / max(low, 1), high_s / max(high, 1))
