"""What vLLM's own statistics say of its steps, turned into the contract's load figures."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from protos.contract.worker import Load
from workers.engines.vllm.running import Running

RATE_WINDOW = 0.9
"""Weight of the past in the running average of tokens a second."""


@dataclass(slots=True)
class Statistics:
    """Fed after every step of one vLLM engine."""

    waiting: int = 0
    kv_used: float = 0.0
    steps: int = 0
    prefilled: int = 0
    tokens_per_s: float = 0.0
    last_step_s: float = 0.0
    last_batch: int = 0
    last_prefill: int = 0
    last_prefills: int = 0
    prefix_queried: int = 0  # prompt tokens looked up in the prefix cache
    prefix_found: int = 0  # and found there
    draft_rounds: int = 0  # of one sequence each
    draft_proposed: int = 0
    draft_accepted: int = 0
    stepped_at: float = 0.0  # monotonic, of the last step's output

    def record(self, scheduler: Any) -> None:
        """Take one ``SchedulerStats``; None is ignored."""
        if scheduler is None:
            return
        self.waiting = scheduler.num_waiting_reqs + scheduler.num_skipped_waiting_reqs
        self.kv_used = float(scheduler.kv_cache_usage)
        cache = scheduler.prefix_cache_stats
        self.prefix_queried += cache.queries
        self.prefix_found += cache.hits
        accepted = self._drafts(scheduler.spec_decoding_stats)
        details = scheduler.iteration_details
        if details is None or details.is_dummy or not (details.num_ctx_tokens or details.num_generation_tokens):
            return
        self.steps += 1
        self.prefilled += details.num_ctx_tokens
        # By vLLM's own clock, which under async scheduling sees the host's part alone: see ``engines.step_clock``.
        self.last_step_s = details.elapsed_ms / 1e3
        before, self.stepped_at = self.stepped_at, time.monotonic()
        self.last_batch, self.last_prefill = details.num_generation_requests, details.num_ctx_tokens
        self.last_prefills = details.num_ctx_requests
        said = details.num_generation_tokens if accepted is None else details.num_generation_requests + accepted
        rate = said / max(self.last_step_s, self.stepped_at - before, 1e-6)
        self.tokens_per_s = RATE_WINDOW * self.tokens_per_s + (1 - RATE_WINDOW) * rate

    def _drafts(self, round_: Any) -> int | None:
        """Tokens accepted in this step; None: nothing was proposed."""
        if round_ is None:
            return None
        self.draft_rounds += round_.num_drafts
        self.draft_proposed += round_.num_draft_tokens
        self.draft_accepted += round_.num_accepted_tokens
        return int(round_.num_accepted_tokens)

    def figures(self, jobs: Iterable[Running]) -> Load:
        """The load now, with ``jobs`` those that have not ended."""
        everyone = [one for one in jobs if not one.ended]
        waiting = min(self.waiting, sum(one.position == 0 for one in everyone))
        return Load(
            running=len(everyone) - waiting,
            waiting=waiting,
            prefill_tokens_pending=sum(len(one.prepared.tokens) for one in everyone if one.position == 0),
            context_tokens=sum(len(one.prepared.tokens) + one.position for one in everyone if one.position),
            expected_remaining_tokens=sum(one.expected_remaining for one in everyone),
            kv_used=self.kv_used if everyone else 0.0,
            step_sequence=self.steps,
            prefill_progress=self.prefilled,
            tokens_per_s=self.tokens_per_s if everyone else 0.0,
            last_step_s=self.last_step_s,
            last_step_batch=self.last_batch,
            last_step_prefill_tokens=self.last_prefill,
            last_step_prefills=self.last_prefills,
            draft_rounds=self.draft_rounds,
            draft_proposed=self.draft_proposed,
            draft_accepted=self.draft_accepted,
        )


def stat_logger(statistics: Statistics, after: Callable[[], None]) -> Any:
    """A factory of vLLM's ``StatLoggerBase`` that feeds ``statistics`` and calls ``after``."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Feed(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            """Nothing to set up."""

        def record(self, scheduler_stats: Any, iteration_stats: Any, **_: Any) -> None:  # noqa: ARG002
            statistics.record(scheduler_stats)
            after()

        def log_engine_initialized(self) -> None:
            """Nothing to say."""

    return Feed
