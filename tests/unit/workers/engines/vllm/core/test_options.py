"""What vLLM is told when it loads a model."""

from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.models.model_shape import ModelShape
from protos.contract.request import Sampling
from protos.contract.stream import RefusalCode
from workers.engines.base import LoadError, ModelSpec, Refused
from workers.engines.vllm.core.options import activations, engine_arguments, environment, options_of
from workers.engines.vllm.sampling import refuse_beside_speculation

SHAPE = ModelShape(
    name="m", layers=80, hidden=8192, heads=64, kv_heads=8, head_dim_k=128, head_dim_v=128, feed_forward=28672,
    vocabulary=128256, context_tokens=131_072, quantization="awq", weights_bytes=40 * 10**9,
)  # fmt: skip


def told(on_cpu: bool, events_at: str = "", context: int = 0, slots: int = 0, **options: object) -> dict[str, object]:
    spec = ModelSpec(name="m", path="/models/m-awq", context_tokens=context, slots=slots, options=options)  # type: ignore[arg-type]
    return engine_arguments(spec, options_of(spec), SHAPE, on_cpu=on_cpu, events_at=events_at)


def test_on_a_gpu_node_the_model_may_be_split_over_several() -> None:
    """Tensor parallel, the share of memory and the size of a step go to vLLM as they are given."""
    arguments = told(False, tensor_parallel=4, memory_share=0.85, step_tokens=8192, kv_dtype="fp8")
    assert arguments["tensor_parallel_size"] == 4
    assert arguments["gpu_memory_utilization"] == 0.85
    assert arguments["max_num_batched_tokens"] == 8192
    assert arguments["kv_cache_dtype"] == "fp8"
    assert arguments["enforce_eager"] is False
    assert "quantization" not in arguments, "config.json knows it best"


@pytest.mark.parametrize(
    ("on_cpu", "quantization", "wished", "told_dtype"),
    [
        (True, "int8", "auto", "bfloat16"),
        (True, "int8", "float32", "float32"),
        (True, "awq", "auto", "auto"),
        (False, "int8", "auto", "auto"),
    ],
)
def test_eight_bit_activations_on_a_processor_are_computed_from_bfloat16(
    on_cpu: bool, quantization: str, wished: str, told_dtype: str
) -> None:
    """The one type that vLLM's kernel for AMX takes; whoever names another gets it."""
    options = options_of(ModelSpec(name="m", path="m", options={"dtype": wished}))
    assert activations(options, replace(SHAPE, quantization=quantization), on_cpu=on_cpu) == told_dtype


def test_on_a_cpu_there_is_no_gpu_to_share_and_no_compiled_path() -> None:
    """And steps are small, so that an abort is soon heard."""
    arguments = told(True, tensor_parallel=4)
    assert "tensor_parallel_size" not in arguments
    assert "gpu_memory_utilization" not in arguments
    assert arguments["enforce_eager"] is True
    assert arguments["max_num_batched_tokens"] == 256
    assert environment(options_of(ModelSpec(name="m", path="m")), on_cpu=True)["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in environment(options_of(ModelSpec(name="m", path="m")), on_cpu=False)


def test_context_and_slots_are_the_models_the_owners_or_bounded() -> None:
    """A model trained on 128k tokens does not take a machine's memory unasked."""
    assert told(False)["max_model_len"] == 8192
    assert told(False, context=32_768, slots=16)["max_model_len"] == 32_768
    assert told(False, slots=16)["max_num_seqs"] == 16


def test_the_prefix_cache_is_on_and_its_events_are_published_where_they_are_heard() -> None:
    """Nothing leaves for vLLM's makers."""
    arguments = told(True, events_at="ipc:///tmp/kv-1")
    assert arguments["enable_prefix_caching"] is True
    assert arguments["kv_events_config"] == {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "ipc:///tmp/kv-1",
    }
    assert "kv_events_config" not in told(True)
    assert told(True, prefix_caching=False)["enable_prefix_caching"] is False
    said = environment(options_of(ModelSpec(name="m", path="m")), on_cpu=False)
    assert (said["VLLM_NO_USAGE_STATS"], said["DO_NOT_TRACK"]) == ("1", "1")


@pytest.mark.parametrize(
    ("options", "says"),
    [({"tensor_paralel": 2}, "tensor_parallel"), ({"slots": 0}, "slots"), ({"threads": "many"}, "threads")],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, str | int], says: str) -> None:
    """Naming the option, and the nearest valid one."""
    with pytest.raises(LoadError, match=says):
        options_of(ModelSpec(name="m", path=str(Path("m")), options=dict(options)))


def test_vllm_speculates_where_it_is_told_to_and_by_the_method_it_is_told() -> None:
    """Off by default: it has no governor."""
    assert "speculative_config" not in told(True)
    ngram = told(True, speculate="ngram", draft_tokens=3)["speculative_config"]
    assert ngram == {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 3, "prompt_lookup_max": 8}
    model = told(False, speculate="draft_model", draft_model="/models/small")["speculative_config"]
    assert model == {"method": "draft_model", "model": "/models/small", "num_speculative_tokens": 4}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"speculate": "eagle9"}, "must be one of tier, ngram, suffix, draft_model, not 'eagle9'"),
        ({"speculate": "draft_model"}, "go together"),
        ({"speculate": "ngram", "draft_model": "/models/small"}, "go together"),
        ({"speculate": "ngram", "draft_tokens": 0}, "draft_tokens"),
        ({"speculate": "suffix"}, "needs the package arctic-inference"),
    ],
)
def test_a_method_that_cannot_be_is_one_line(options: dict[str, object], says: str) -> None:
    """Before anything is started."""
    with pytest.raises(LoadError, match=says):
        told(True, **options)


def test_what_vllm_does_not_draw_by_while_it_speculates_is_refused_by_name() -> None:
    """Before any work; what it does is not."""
    refuse_beside_speculation(Sampling(temperature=0.7, top_p=0.9, top_k=5, presence_penalty=1.0, seed=3))
    for sampling, name in ((Sampling(min_p=0.1), "min_p"), (Sampling(logit_bias={5: 1.0}), "logit_bias")):
        with pytest.raises(Refused) as refused:
            refuse_beside_speculation(sampling)
        assert (refused.value.code, refused.value.parameter) == (RefusalCode.UNSUPPORTED, name)
