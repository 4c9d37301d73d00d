"""Whether this vLLM has the places where drafts from outside come in. They are no public interface: looked at, not
assumed, and where one is missing the engine serves without drafts and says so.
"""

import inspect
from collections.abc import Sequence
from typing import get_args

PROPOSER = "workers.engines.vllm.drafting.silent.Silent"
SCHEDULER = "workers.engines.vllm.drafting.scheduler.DraftingScheduler"
"""What vLLM loads by name, in its core process."""

METHOD = "custom_class"
"""VLLM's name for a proposer that somebody else wrote."""


def why_no_hook() -> str:
    """Why drafts from outside cannot go to this vLLM, in a few words; empty: they can."""
    try:
        from vllm.config.speculative import SpeculativeMethod
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.outputs import DraftTokenIds
    except ImportError as error:
        return f"this vLLM has no hook for them ({error})"
    methods = [name for one in get_args(SpeculativeMethod) for name in (get_args(one) or (one,))]
    return what_lacks(Scheduler, DraftTokenIds, methods)


def what_lacks(scheduler: type, draft_token_ids: type, methods: Sequence[str]) -> str:
    """The same of given classes: the scheduler, what it is handed once a step, and the methods that can be named."""
    asked = (("update_draft_token_ids", ["self", "draft_token_ids"]),
             ("update_from_output", ["self", "scheduler_output", "model_runner_output"]))  # fmt: skip
    for name, parameters in asked:
        found = getattr(scheduler, name, None)
        if found is None or list(inspect.signature(found).parameters) != parameters:
            return f"this vLLM's scheduler has no {name}({', '.join(parameters[1:])})"
    fields = list(getattr(draft_token_ids, "__dataclass_fields__", ()))
    if fields[:2] != ["req_ids", "draft_token_ids"]:
        return "this vLLM hands drafts over in another form"
    return "" if METHOD in methods else f"this vLLM has no speculative method '{METHOD}'"
