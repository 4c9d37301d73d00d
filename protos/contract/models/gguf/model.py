"""What a GGUF model says of itself: its shape, its quantization, its sizes, over all parts of a split model."""

from collections.abc import Mapping
from pathlib import Path

from protos.contract.models.errors import BadModelFile
from protos.contract.models.fields import Fields
from protos.contract.models.gguf.header import Field, GgufHeader, Measured, Tensor, read_header
from protos.contract.models.gguf.types import FILE_TYPES
from protos.contract.models.kv_cache import grouped
from protos.contract.models.model_name import parse_name, quantization_in
from protos.contract.models.model_shape import KvLayers, ModelShape
from protos.contract.models.sampling import GGUF_NAMES, sampling_told

LINEAGE_KEY = "allsorts.lineage"
"""Written when this project requantizes a file, because a Q8_0 made from a Q4_1 is no better than the Q4_1."""

MAX_PARTS = 1000

_SWA_PERIOD: Mapping[str, int] = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "phi3": 0}
"""Architectures whose files give a window and not which layers slide: all but the last of so many; 0: all (llama.cpp
``set_swa_pattern``). Of others none is taken to slide, which asks for too much memory rather than too little."""


def read_gguf(path: Path) -> ModelShape:
    """The shape of the model whose only or first file is ``path``. Raises BadModelFile."""
    header = read_header(path)
    parts = [header, *(read_header(one) for one in _other_parts(path))]
    return shape_of(path, header.fields, parts)


def stated_quantization(path: Path) -> str:
    """What the file's header says it holds; what its name claims where the header is silent or cannot be read."""
    try:
        return _quantization(path, read_header(path).fields)
    except BadModelFile:
        return quantization_in(path.name)


def _other_parts(path: Path) -> list[Path]:
    """The files after the first of a model that gguf-split cut into several."""
    named = parse_name(path.name)
    if named.shards <= 1:
        return []
    if named.shard != 1:
        raise BadModelFile(path, f"is part {named.shard} of {named.shards}", "name the first, which has the fields")
    if named.shards > MAX_PARTS:
        raise BadModelFile(path, f"its name claims {named.shards} parts", f"at most {MAX_PARTS} are read")
    tail = f"-of-{named.shards:05d}.gguf"
    start = path.name[: -len(f"00001{tail}")]
    return [path.with_name(f"{start}{number:05d}{tail}") for number in range(2, named.shards + 1)]


def shape_of(path: Path, fields: Mapping[str, Field], parts: list[GgufHeader]) -> ModelShape:
    """The shape that the first part's ``fields`` and the tensors of all parts describe. Raises BadModelFile."""
    read = Fields(path, fields)
    arch = read.text("general.architecture")
    if not arch:
        raise BadModelFile(path, "field general.architecture is missing", "is this a model's GGUF file?")
    tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
    if not tensors:
        raise BadModelFile(path, "it has no tensors (a vocabulary alone?)")
    hidden = read.count(f"{arch}.embedding_length")
    heads = read.count(f"{arch}.attention.head_count")
    head_dim = hidden // heads if heads else 0
    latent = read.raw(f"{arch}.attention.key_length_mla") is not None
    key = read.count(f"{arch}.attention.key_length", head_dim)
    # of a latent one vector holds keys and values (llama.cpp's kv cache of MLA models)
    value = 0 if latent else read.count(f"{arch}.attention.value_length", head_dim)
    feed_forward = read.count(f"{arch}.feed_forward_length", 4 * hidden) or read.count(f"{arch}.ssm.inner_size")
    return ModelShape(
        name=read.text("general.name") or parse_name(path.name).model,
        layers=read.layers(f"{arch}.block_count"),
        hidden=hidden,
        heads=heads,
        kv_heads=read.count(f"{arch}.attention.head_count_kv", heads),
        head_dim_k=key,
        head_dim_v=value,
        feed_forward=read.count(f"{arch}.expert_feed_forward_length") or feed_forward,
        vocabulary=_vocabulary(read, arch, tensors.get("token_embd.weight")),
        context_tokens=read.count(f"{arch}.context_length"),
        tied_embeddings="output.weight" not in tensors,
        experts=read.count(f"{arch}.expert_count"),
        experts_used=read.count(f"{arch}.expert_used_count"),
        shared_experts=read.count(f"{arch}.expert_shared_count"),
        dense_layers=read.count(f"{arch}.leading_dense_block_count"),
        dense_feed_forward=feed_forward,
        kv_layers=_kv_layers(read, arch, heads, key, value),
        state_bytes=_state_bytes(read, arch, heads),
        stated_parameters=sum(part.parameters for part in parts),
        weights_bytes=sum(part.weights_bytes for part in parts),
        quantization=_quantization(path, fields),
        lineage=read.text(LINEAGE_KEY),
        sampling=sampling_told(fields, GGUF_NAMES),
    )


def _quantization(path: Path, fields: Mapping[str, Field]) -> str:
    kind = fields.get("general.file_type")
    told = FILE_TYPES.get(kind, "") if isinstance(kind, int) else ""
    return told or quantization_in(path.name)


def _vocabulary(read: Fields, arch: str, embedding: Tensor | None) -> int:
    """Tokens the output layer tells apart: the length of the list, else the longer side of the embedding's shape."""
    tokens = read.raw("tokenizer.ggml.tokens")
    told = tokens.count if isinstance(tokens, Measured) else read.count(f"{arch}.vocab_size")
    return told or (embedding.shape[-1] if embedding is not None else 0)


def _kv_layers(read: Fields, arch: str, heads: int, key: int, value: int) -> tuple[KvLayers, ...]:
    """By the file's own keys: key-value heads, windows, and layers that keep nothing."""
    layers = read.layers(f"{arch}.block_count")
    kv_heads = read.each(f"{arch}.attention.head_count_kv", layers, heads)
    windows = _windows(read, arch, layers)
    recurrent = _recurrent(read, arch, heads)
    borrowing = layers - read.count(f"{arch}.attention.shared_kv_layers")  # from here on they use earlier layers' cache
    windowed_key = read.count(f"{arch}.attention.key_length_swa", key)
    windowed_value = read.count(f"{arch}.attention.value_length_swa", value)
    each = []
    for layer, (count, window) in enumerate(zip(kv_heads, windows, strict=True)):
        kept = 0 if recurrent[layer] or layer >= borrowing else count
        keys, values = (windowed_key, windowed_value) if window else (key, value)
        each.append(KvLayers(layers=1, keys=kept * keys, values=kept * values, window=window))
    return grouped(each)


def _recurrent(read: Fields, arch: str, heads: int) -> list[bool]:
    """Of each layer, whether it keeps a state of fixed size instead of keys and values."""
    layers = read.layers(f"{arch}.block_count")
    told = read.raw(f"{arch}.attention.recurrent_layers")
    if isinstance(told, tuple) and len(told) == layers:
        return [bool(one) for one in told]
    if interval := read.count(f"{arch}.full_attention_interval"):
        return [(layer + 1) % interval != 0 for layer in range(layers)]
    return [not count for count in read.each(f"{arch}.attention.head_count_kv", layers, heads)]


def _state_bytes(read: Fields, arch: str, heads: int) -> int:
    """Of one sequence, 32 bits a number: a convolution's last inputs and a state space's state, as llama.cpp keeps them
    (``llama_hparams::n_embd_r`` and ``n_embd_s``).
    """
    inner, state = read.count(f"{arch}.ssm.inner_size"), read.count(f"{arch}.ssm.state_size")
    window = read.count(f"{arch}.ssm.conv_kernel")
    inputs = max(0, window - 1) * (inner + 2 * read.count(f"{arch}.ssm.group_count") * state)
    if short := read.count(f"{arch}.shortconv.l_cache"):
        inputs = (short - 1) * read.count(f"{arch}.embedding_length")
    return 4 * sum(_recurrent(read, arch, heads)) * (inputs + inner * state)


def _windows(read: Fields, arch: str, layers: int) -> list[int]:
    """Tokens each layer looks back; 0: all."""
    window = read.count(f"{arch}.attention.sliding_window")
    pattern = read.raw(f"{arch}.attention.sliding_window_pattern")
    if not window or (pattern is None and arch not in _SWA_PERIOD):
        return [0] * layers
    if isinstance(pattern, tuple):
        if len(pattern) != layers:
            raise read.wrong(f"{arch}.attention.sliding_window_pattern", f"must have {layers} entries")
        return [window if slides else 0 for slides in pattern]
    period = _SWA_PERIOD[arch] if pattern is None else read.count(f"{arch}.attention.sliding_window_pattern")
    return [window if not period or layer % period < period - 1 else 0 for layer in range(layers)]
