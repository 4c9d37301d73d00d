"""What a loaded GGUF model says of itself, as the worker reports it."""

from protos.contract.worker import Capabilities, ModelInstance
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.llama_cpp.options import Options
from workers.engines.prompts import template_fingerprint, tokens_per_byte
from workers.models.gguf_file import LINEAGE_KEY, quantization_from_file_type, quantization_from_name

CAPABILITIES = Capabilities(
    can_continue=True, can_score=True, logprobs=True, seed=True, can_load=True, publishes_cache=True
)
BYTES_PER_VALUE = 2
"""The KV cache holds f16."""


def loaded_model(model: NativeModel, spec: ModelSpec, options: Options, template: str) -> ModelInstance:
    """Facts from the file's metadata."""
    arch = model.meta("general.architecture")
    layers = _number(model.meta(f"{arch}.block_count"))
    heads = _number(model.meta(f"{arch}.attention.head_count"))
    kv_heads = _number(model.meta(f"{arch}.attention.head_count_kv")) or heads
    head_dim = _number(model.meta(f"{arch}.embedding_length")) // heads if heads else 0
    head_dim_k = _number(model.meta(f"{arch}.attention.key_length")) or head_dim
    head_dim_v = _number(model.meta(f"{arch}.attention.value_length")) or head_dim
    return ModelInstance(
        model=spec.name,
        quantization=_quantization(model, spec),
        format="gguf",
        context_tokens=options.context_tokens,
        slots=options.slots,
        capabilities=CAPABILITIES,
        bits_per_weight=8.0 * model.weights_bytes / model.parameters if model.parameters else 0.0,
        weights_bytes=model.weights_bytes,
        parameters=model.parameters,
        active_parameters=_active(model, arch),
        layers=layers,
        kv_heads=kv_heads,
        head_dim_k=head_dim_k,
        head_dim_v=head_dim_v,
        kv_capacity_tokens=options.slots * options.context_tokens,
        kv_bytes_per_token=layers * kv_heads * (head_dim_k + head_dim_v) * BYTES_PER_VALUE,
        tokenizer_fingerprint=model.tokenizer_fingerprint(),
        chat_template_fingerprint=template_fingerprint(template),
        lineage=model.meta(LINEAGE_KEY),
        file=spec.path.rpartition("/")[2],
        tokens_per_byte=tokens_per_byte(model),
    )


def _quantization(model: NativeModel, spec: ModelSpec) -> str:
    """What the file says; where it does not, what was asked for, or what its name claims."""
    kind = model.meta("general.file_type")
    told = quantization_from_file_type(int(kind)) if kind.isdigit() else ""
    return told or spec.quantization or quantization_from_name(spec.path)


def _active(model: NativeModel, arch: str) -> int:
    experts = _number(model.meta(f"{arch}.expert_count"))
    used = _number(model.meta(f"{arch}.expert_used_count"))
    return model.parameters * used // experts if experts and used else model.parameters


def _number(text: str) -> int:
    """A metadata value as a number; some architectures list one per layer: the largest is what memory must hold."""
    values = [int(part) for part in text.strip("[]").split(",") if part.strip().isdigit()]
    return max(values, default=0)
