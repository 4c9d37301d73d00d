"""What can be set when vLLM loads a model, and what vLLM is told. Pure."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from protos.contract.models.model_shape import ModelShape
from workers.engines.base import LoadError, ModelSpec
from workers.engines.option_values import option_values
from workers.engines.vllm.drafting.hook import METHOD, PROPOSER, SCHEDULER

DEFAULT_SLOTS = 64
DEFAULT_CONTEXT_TOKENS = 8192
CPU_STEP_TOKENS = 256
"""Tokens of one step on a CPU: an abort, and every other stream, waits for at most one step."""


TIER = "tier"
"""Drafts from outside vLLM: the texts' own, and a draft worker's; as many as pay."""

METHODS = (TIER, "ngram", "suffix", "draft_model")
"""Beside the tier, of vLLM's own those that need no weights trained for the target. ``suffix`` needs the package
arctic-inference.
"""
LOOKUP_MIN, LOOKUP_MAX = 3, 8
"""Tokens that must agree before ``ngram`` proposes, as in the llama.cpp engine, and those that it looks for at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one vLLM engine; 0 or empty: vLLM's own default."""

    context_tokens: int = 0  # 0: the model's own, at most DEFAULT_CONTEXT_TOKENS
    slots: int = DEFAULT_SLOTS
    tensor_parallel: int = 1  # GPUs that share one model
    memory_share: float = 0.9  # of the GPU's memory
    threads: int = 1  # on a CPU
    kv_gib: int = 1  # KV cache, on a CPU
    step_tokens: int = 0  # tokens of one step, prompts and answers together
    dtype: str = "auto"  # of activations: auto, float16, bfloat16, float32
    kv_dtype: str = "auto"
    quantization: str = ""  # vLLM's name of the kernel; empty: what config.json says
    prefix_caching: bool = True
    publish_cache: bool = True
    eager: bool = False  # no CUDA graphs; always on a CPU, where the compiled path gave wrong text
    queue_limit: int = 256  # jobs that may wait inside vLLM
    trust_remote_code: bool = False
    chat_template: str = ""  # path of a Jinja file instead of the folder's own
    speculate: str = ""  # one of METHODS; empty: it does not
    draft_tokens: int = 4  # proposed in a round; by the tier at most so many
    draft_model: str = ""  # folder of a smaller model with the same tokenizer, for "draft_model"


def options_of(spec: ModelSpec) -> Options:
    """Options from a spec; raises LoadError naming an unknown option and the nearest valid one."""
    positive = ("slots", "threads", "tensor_parallel", "kv_gib", "draft_tokens")
    options = option_values(Options, spec, "vllm", positive=positive)
    if options.speculate not in ("", *METHODS):
        known = ", ".join(METHODS)
        raise LoadError(f"vllm engine: option 'speculate' must be one of {known}, not {options.speculate!r}")
    if options.speculate == "suffix" and importlib.util.find_spec("arctic_inference") is None:
        raise LoadError('vllm engine: speculate = "suffix" needs the package arctic-inference, which is not installed')
    if (options.speculate == "draft_model") != bool(options.draft_model):
        raise LoadError("vllm engine: speculate = \"draft_model\" and the option 'draft_model', a folder, go together")
    return options


def speculation(options: Options) -> dict[str, Any] | None:
    """VLLM's ``speculative_config``; None: it does not speculate."""
    match options.speculate:
        case "tier":
            return {"method": METHOD, "model": PROPOSER, "num_speculative_tokens": options.draft_tokens}
        case "ngram":
            lookup = {"prompt_lookup_min": LOOKUP_MIN, "prompt_lookup_max": LOOKUP_MAX}
            return {"method": "ngram", "num_speculative_tokens": options.draft_tokens, **lookup}
        case "suffix":
            return {"method": "suffix", "num_speculative_tokens": options.draft_tokens}
        case "draft_model":
            named = {"method": "draft_model", "model": options.draft_model}
            return {**named, "num_speculative_tokens": options.draft_tokens}
    return None


def context_of(options: Options, shape: ModelShape) -> int:
    """Tokens that prompt and answer may have together."""
    return options.context_tokens or min(shape.context_tokens or DEFAULT_CONTEXT_TOKENS, DEFAULT_CONTEXT_TOKENS)


def activations(options: Options, shape: ModelShape, *, on_cpu: bool) -> str:
    """Type of the activations. With eight-bit weights and activations on a processor with AMX, vLLM 0.32.0 has a kernel
    for bfloat16 alone: asked for another, its core ends with the first step ("scalar path not implemented").
    """
    if on_cpu and options.dtype == "auto" and shape.quantization == "int8":
        return "bfloat16"
    return options.dtype


def engine_arguments(
    spec: ModelSpec, options: Options, shape: ModelShape, *, on_cpu: bool, events_at: str, drafts_at: str = ""
) -> dict[str, Any]:
    """Keyword arguments of vLLM's AsyncEngineArgs. ``events_at``: where the engine publishes KV events, or empty;
    ``drafts_at``: where its scheduler hears of drafts.
    """
    arguments: dict[str, Any] = {
        "model": spec.path,
        "tokenizer": spec.path,
        "max_model_len": context_of(options, shape),
        "max_num_seqs": options.slots,
        "dtype": activations(options, shape, on_cpu=on_cpu),
        "kv_cache_dtype": options.kv_dtype,
        "enforce_eager": on_cpu or options.eager,
        "enable_prefix_caching": options.prefix_caching,
        "enable_chunked_prefill": True,
        "trust_remote_code": options.trust_remote_code,
        "generation_config": "vllm",  # sampling as the request says, not as the model's folder suggests
        "enable_logging_iteration_details": True,  # what each step did, for the load figures
        "disable_log_stats": False,
        "logprobs_mode": "raw_logprobs",  # before temperature and penalties
        "seed": 0,
    }
    step_tokens = options.step_tokens or (max(CPU_STEP_TOKENS, options.slots) if on_cpu else 0)
    if step_tokens:
        arguments["max_num_batched_tokens"] = step_tokens
    if options.quantization:
        arguments["quantization"] = options.quantization
    if on_cpu:
        arguments["worker_extension_cls"] = "workers.engines.vllm.core.cpu_generators.Extension"
    else:
        arguments["tensor_parallel_size"] = options.tensor_parallel
        arguments["gpu_memory_utilization"] = options.memory_share
    if (speculates := speculation(options)) is not None:
        arguments["speculative_config"] = speculates
    if options.speculate == TIER:
        arguments["scheduler_cls"] = SCHEDULER
        arguments["async_scheduling"] = False  # the next step is planned when the last one's tokens are known
        arguments["additional_config"] = {"allsorts_drafts_at": drafts_at}
    if events_at:
        arguments["kv_events_config"] = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": events_at,
        }
    return arguments


def environment(options: Options, *, on_cpu: bool) -> dict[str, str]:
    """What vLLM reads from the environment of the process that starts its core."""
    told = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # threads and forks do not go together, nor do forks and CUDA
    }
    if on_cpu:
        told |= {
            "OMP_NUM_THREADS": str(options.threads),
            "VLLM_CPU_KVCACHE_SPACE": str(options.kv_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # bound threads of two workers meet on one core
        }
    return told
