"""vLLM's scheduler, handing out drafts from outside: once a step, for the whole batch in one call.

vLLM's core process loads it by name (``scheduler_cls``). The drafts replace what its own proposer proposed, which is
nothing; vLLM lets a grammar cut them, verifies them with the next step, and takes back what the target does not say.
Whatever goes wrong here costs speed alone.
"""

import time
from typing import Any

import structlog
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import DraftTokenIds

from workers.engines.vllm.drafting.assignment import CoreEnd
from workers.engines.vllm.drafting.batch import BatchDrafts, Room, Speaking
from workers.speculation.evidence import kind_of
from workers.speculation.speculator import CPU_SHAPE, GPU_SHAPE, Speculator

log = structlog.get_logger(__name__)


class DraftingScheduler(Scheduler):  # type: ignore[misc]
    """Proposes by the sequences' own texts, and by the draft worker that this model was assigned."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.vllm_config
        shape = CPU_SHAPE if config.device_config.device_type == "cpu" else GPU_SHAPE
        self._drafts: BatchDrafts | None = BatchDrafts(Speculator(shape))
        self._assigned = CoreEnd(config.additional_config["allsorts_drafts_at"], config.model_config.get_vocab_size())
        self._began = 0.0
        self._took_s = 0.0
        self._verified: dict[str, list[int]] = {}
        self._rows = 0
        self._reads = False

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        """VLLM's; what the step computes is noted."""
        self._began = time.perf_counter()
        planned = super().schedule(*args, **kwargs)
        self._verified = planned.scheduled_spec_decode_tokens
        self._rows = planned.total_num_scheduled_tokens
        decoding = len(planned.num_scheduled_tokens) + sum(len(one) for one in self._verified.values())
        self._reads = bool(planned.scheduled_new_reqs) or self._rows != decoding
        return planned

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        """VLLM's; the model has computed by now."""
        self._took_s = time.perf_counter() - self._began
        return super().update_from_output(scheduler_output, model_runner_output)

    def update_draft_token_ids(self, draft_token_ids: Any) -> None:
        """Ours instead of those that are given."""
        if self._drafts is not None:
            try:
                draft_token_ids = self._propose(self._drafts)
            except Exception as error:  # an edge: the core, and all it runs, goes on without drafts
                log.exception("draft.hook_failed")
                self._assigned.off(f"the hook failed: {error}")
                self._drafts = None
                draft_token_ids = DraftTokenIds([], [])
        else:
            draft_token_ids = DraftTokenIds([], [])
        super().update_draft_token_ids(draft_token_ids)

    def _propose(self, drafts: BatchDrafts) -> Any:
        step = None if self._reads or not self._rows else (self._rows, self._took_s)
        drafts.judge(lambda key: self._verified.get(key, ()), step)
        self._verified = {}
        running = [one for one in self.running if not one.is_prefill_chunk and one.num_output_tokens]
        for request in running:
            drafts.add(_speaking(self, request))
        room_for_more = len(self.running) < self.max_num_running_reqs
        if len(running) < len(self.running) or (self.waiting and room_for_more) or not running:
            return DraftTokenIds([], [])  # while prompts are read, the step has enough to do
        drafts.speculator.drafts = self._assigned.use
        keys = [one.request_id for one in running]
        room = Room(len(running), self.max_num_scheduled_tokens, self.num_spec_tokens, self.max_model_len)
        return DraftTokenIds(keys, drafts.propose(keys, room))

    def shutdown(self, *args: Any, **kwargs: Any) -> Any:
        """VLLM's, and the draft is told goodbye."""
        self._assigned.close()
        return super().shutdown(*args, **kwargs)


def _speaking(scheduler: Any, request: Any) -> Speaking:
    sampling = request.sampling_params
    fitting = None
    if request.use_structured_output:
        manager = scheduler.structured_output_manager
        fitting = lambda tokens: len(manager.validate_tokens(request, list(tokens)))  # noqa: E731
    return Speaking(
        key=request.request_id,
        owner=request.cache_salt or "",
        tokens=request.all_token_ids,
        prompt_tokens=request.num_prompt_tokens,
        budget=request.max_tokens,
        kind=kind_of(0.0 if sampling is None else sampling.temperature, structured=request.use_structured_output),
        alone=sampling is None or (sampling.seed is not None and sampling.temperature > 0.0),
        fitting=fitting,
        over=lambda: request.request_id not in scheduler.requests or request.is_finished(),
    )
