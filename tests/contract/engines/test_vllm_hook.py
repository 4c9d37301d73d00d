"""vLLM's own scheduler with ours in its place, and a model that says what is written: no core process, no weights.

Rule: what is said is the model's own, in fewer steps where the proposals are right, whatever the draft does.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.engines.rigs import run_elsewhere
from workers.engines.base import ModelSpec
from workers.engines.vllm.core.options import engine_arguments, options_of
from workers.engines.vllm.folder import read_folder

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(run_elsewhere("vllm")), reason=run_elsewhere("vllm")),
]

CONTEXT_TOKENS = 128
PROMPT = [100 + at % 10 for at in range(30)]
ROUND = [100 + at % 10 for at in range(CONTEXT_TOKENS)]
"""Goes on as the prompt does."""
STEP_S = 0.002


@pytest.fixture
def scheduler(awq_folder: Path, tmp_path: Path) -> Iterator[Any]:
    """As the core process makes it."""
    import torch
    from vllm import AsyncEngineArgs
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    spec = ModelSpec(
        name="m", path=str(awq_folder), context_tokens=CONTEXT_TOKENS, slots=2,
        options={"speculate": "tier", "prefix_caching": False},
    )  # fmt: skip
    arguments = engine_arguments(
        spec, options_of(spec), read_folder(awq_folder).shape, on_cpu=True, events_at="",
        drafts_at=f"ipc://{tmp_path}/drafts",
    )  # fmt: skip
    config = AsyncEngineArgs(**arguments).create_engine_config()
    config.cache_config.num_gpu_blocks = 50
    attention = FullAttentionSpec(block_size=16, num_kv_heads=1, head_size=1, dtype=torch.float32)
    cache = KVCacheConfig(num_blocks=50, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], attention)])
    made = config.scheduler_config.get_scheduler_cls()(
        vllm_config=config, kv_cache_config=cache, block_size=16,
        structured_output_manager=StructuredOutputManager(config), log_stats=True,
    )  # fmt: skip
    yield made
    made.shutdown()


def said(scheduler: Any, name: str, truth: list[int], **sampling: Any) -> tuple[list[int], int]:
    """What a request is answered to the end of the context, and in how many steps."""
    from vllm import SamplingParams
    from vllm.v1.outputs import DraftTokenIds, ModelRunnerOutput
    from vllm.v1.request import Request

    parameters = SamplingParams(max_tokens=CONTEXT_TOKENS - len(PROMPT), ignore_eos=True, **sampling)
    request = Request(request_id=name, prompt_token_ids=PROMPT, sampling_params=parameters, pooling_params=None)
    scheduler.add_request(request)
    steps = 0
    while scheduler.has_requests():
        planned = scheduler.schedule()
        time.sleep(STEP_S)  # a step's cost: the governor asks what verifying costs
        names = list(planned.num_scheduled_tokens)
        tokens = _verified(planned.scheduled_spec_decode_tokens.get(name, []), truth[request.num_output_tokens :])
        output = ModelRunnerOutput(req_ids=names, req_id_to_index={name: 0}, sampled_token_ids=[tokens] * len(names))
        scheduler.update_from_output(planned, output)
        scheduler.update_draft_token_ids(DraftTokenIds(names, [[] for _ in names]))
        steps += 1
    return list(request.output_token_ids), steps


def _verified(draft: list[int], truth: list[int]) -> list[int]:
    """As far as the draft is right, and the model's own next token."""
    right = 0
    while right < len(draft) and draft[right] == truth[right]:
        right += 1
    return truth[: right + 1]


def test_what_repeats_itself_comes_in_fewer_steps_and_a_seed_is_left_alone(scheduler: Any) -> None:
    """Both say what is written, to the context's last token."""
    length = CONTEXT_TOKENS - len(PROMPT)
    seeded, plain = said(scheduler, "seeded", ROUND, temperature=1.0, seed=3)
    quick, fewer = said(scheduler, "greedy", ROUND, temperature=0.0)
    assert seeded == quick == ROUND[:length]
    assert plain >= length
    assert fewer < plain


def test_a_hook_that_fails_ends_the_drafts_and_no_request(scheduler: Any) -> None:
    """Step by step, as if there were none."""
    scheduler._drafts = object()
    answered, steps = said(scheduler, "greedy", ROUND, temperature=0.0)
    assert answered == ROUND[: CONTEXT_TOKENS - len(PROMPT)]
    assert steps >= len(answered)


def test_a_top_k_beside_a_step_without_proposals_ends_no_core() -> None:
    """What vLLM's worker process loads on a processor has an answer for no rows; others are cut as ever."""
    import torch
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

    import workers.engines.vllm.core.cpu_generators  # noqa: F401

    none = apply_top_k_top_p_pytorch(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int32), None, allow_cpu_sync=True)
    assert none.shape == (0, 4)
    two = torch.tensor([2], dtype=torch.int32)
    cut = apply_top_k_top_p_pytorch(torch.arange(4.0)[None], two, None, allow_cpu_sync=True)
    assert cut.isfinite().tolist() == [[False, False, True, True]]
