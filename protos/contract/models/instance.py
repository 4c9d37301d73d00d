"""A model's shape as a worker reports it."""

from protos.contract.models.kv_cache import kv_bytes_per_token
from protos.contract.models.model_shape import ModelShape
from protos.contract.worker import ModelInstance


def instance_of(
    shape: ModelShape, *, model: str, file_format: str, file: str = "", kv_format: str = "f16"
) -> ModelInstance:
    """What the shape tells; the caller replaces what only a loaded model knows."""
    return ModelInstance(
        model=model,
        quantization=shape.quantization,
        format=file_format,
        bits_per_weight=shape.bits_per_weight,
        weights_bytes=shape.weights_bytes,
        parameters=shape.parameters,
        active_parameters=shape.active_parameters,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim_k=shape.head_dim_k,
        head_dim_v=shape.head_dim_v,
        context_tokens=shape.context_tokens,
        kv_bytes_per_token=kv_bytes_per_token(shape, kv_format),
        lineage=shape.lineage,
        file=file,
        sampling=shape.sampling,
    )
