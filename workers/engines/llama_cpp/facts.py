"""What a loaded GGUF model says of itself, as the worker reports it."""

from dataclasses import replace

from protos.contract.models.instance import instance_of
from protos.contract.models.model_shape import ModelShape
from protos.contract.worker import Capabilities, ModelInstance
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.llama_cpp.options import Options
from workers.engines.prompts import template_fingerprint, tokens_per_byte

CAPABILITIES = Capabilities(
    can_continue=True, can_score=True, logprobs=True, seed=True, can_load=True, publishes_cache=True
)


def loaded_model(
    model: NativeModel, shape: ModelShape, spec: ModelSpec, options: Options, template: str
) -> ModelInstance:
    """Facts from the file's header, and what only the loaded model tells."""
    return replace(
        instance_of(shape, model=spec.name, file_format="gguf", file=spec.path.rpartition("/")[2]),
        quantization=shape.quantization or spec.quantization,
        context_tokens=options.context_tokens,
        slots=options.slots,
        capabilities=CAPABILITIES,
        kv_capacity_tokens=options.slots * options.context_tokens,
        tokenizer_fingerprint=model.tokenizer_fingerprint(),
        chat_template_fingerprint=template_fingerprint(template),
        tokens_per_byte=tokens_per_byte(model),
    )
