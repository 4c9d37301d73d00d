"""Shapes of models that no file tells of: by name (``llama-3.3-70b``) or by size alone.

For a size (``70B``, ``8x7B``, ``30B-A3B``) the best known model of it stands, and the shape's ``note`` says so.
"""

import difflib
import math
import re
from dataclasses import dataclass, replace

from protos.contract.models.model_shape import KvLayers, ModelShape


def _dense(
    name: str, layers: int, hidden: int, heads: int, kv_heads: int, feed_forward: int, vocabulary: int, context: int,
    *, head_dim: int = 128, tied: bool = False,
) -> ModelShape:  # fmt: skip
    return ModelShape(
        name=name, layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim_k=head_dim,
        head_dim_v=head_dim, feed_forward=feed_forward, vocabulary=vocabulary, context_tokens=context,
        tied_embeddings=tied,
    )  # fmt: skip


def _alternating(layers: int, kept: int, window: int) -> tuple[KvLayers, ...]:
    """Every other layer looks back ``window`` tokens. ``kept``: numbers of a token's keys, and of its values."""
    half = KvLayers(layers=layers // 2, keys=kept, values=kept)
    return replace(half, window=window), half


KNOWN_SHAPES: tuple[ModelShape, ...] = (
    _dense("smollm2-135m", 30, 576, 9, 3, 1536, 49152, 8192, head_dim=64, tied=True),
    _dense("smollm2-360m", 32, 960, 15, 5, 2560, 49152, 8192, head_dim=64, tied=True),
    _dense("qwen2.5-0.5b", 24, 896, 14, 2, 4864, 151936, 32768, head_dim=64, tied=True),
    _dense("llama-3.2-1b", 16, 2048, 32, 8, 8192, 128256, 131072, head_dim=64, tied=True),
    _dense("qwen2.5-1.5b", 28, 1536, 12, 2, 8960, 151936, 32768, tied=True),
    _dense("smollm2-1.7b", 24, 2048, 32, 32, 8192, 49152, 8192, head_dim=64, tied=True),
    _dense("llama-3.2-3b", 28, 3072, 24, 8, 8192, 128256, 131072, tied=True),
    _dense("qwen3-4b", 36, 2560, 32, 8, 9728, 151936, 40960, tied=True),
    _dense("qwen2.5-7b", 28, 3584, 28, 4, 18944, 152064, 32768),
    _dense("mistral-7b", 32, 4096, 32, 8, 14336, 32768, 32768),
    _dense("llama-2-7b", 32, 4096, 32, 32, 11008, 32000, 4096),
    _dense("llama-3.1-8b", 32, 4096, 32, 8, 14336, 128256, 131072),
    _dense("qwen3-8b", 36, 4096, 32, 8, 12288, 151936, 40960),
    _dense("llama-2-13b", 40, 5120, 40, 40, 13824, 32000, 4096),
    _dense("qwen3-14b", 40, 5120, 40, 8, 17408, 151936, 40960),
    _dense("mistral-small-24b", 40, 5120, 32, 8, 32768, 131072, 32768),
    _dense("qwen3-32b", 64, 5120, 64, 8, 25600, 151936, 40960),
    _dense("qwen2.5-32b", 64, 5120, 40, 8, 27648, 152064, 32768),
    _dense("llama-3.3-70b", 80, 8192, 64, 8, 28672, 128256, 131072),
    _dense("qwen2.5-72b", 80, 8192, 64, 8, 29568, 152064, 32768),
    _dense("llama-3.1-405b", 126, 16384, 128, 8, 53248, 128256, 131072),
    replace(_dense("gpt-oss-20b", 24, 2880, 64, 8, 2880, 201088, 131072, head_dim=64),
            experts=32, experts_used=4, kv_layers=_alternating(24, 8 * 64, 128)),
    replace(_dense("qwen3-30b-a3b", 48, 2048, 32, 4, 768, 151936, 40960), experts=128, experts_used=8),
    replace(_dense("mixtral-8x7b", 32, 4096, 32, 8, 14336, 32000, 32768), experts=8, experts_used=2),
    replace(_dense("gpt-oss-120b", 36, 2880, 64, 8, 2880, 201088, 131072, head_dim=64),
            experts=128, experts_used=4, kv_layers=_alternating(36, 8 * 64, 128)),
    replace(_dense("mixtral-8x22b", 56, 6144, 48, 8, 16384, 32768, 65536), experts=8, experts_used=2),
    replace(_dense("qwen3-235b-a22b", 94, 4096, 64, 4, 1536, 151936, 40960), experts=128, experts_used=8),
    ModelShape(name="deepseek-v3-671b", layers=61, hidden=7168, heads=128, kv_heads=1, head_dim_k=576, head_dim_v=0,
               feed_forward=2048, vocabulary=129280, context_tokens=163840, experts=256, experts_used=8,
               shared_experts=1, dense_layers=3, dense_feed_forward=18432, attention_parameters=187_107_328),
)  # fmt: skip
"""From each model's published config.json; the first of a size stands for that size. DeepSeek's keys and values are
one compressed vector of 512 + 64 numbers a layer (multi-head latent attention, arXiv 2405.04434)."""

_STANDS_FOR = {"7b": "qwen2.5-7b", "8b": "llama-3.1-8b", "32b": "qwen3-32b"}
_SIZE = re.compile(r"(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?:-a(\d{1,4}(?:\.\d{1,3})?)b)?", re.IGNORECASE)
_SMALLEST, _LARGEST = 1e6, 5e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A size as people write it. ``experts`` above 1: that many times ``parameters`` each."""

    parameters: float
    experts: int = 1
    active_parameters: float = 0.0


def parse_size(text: str) -> Size | None:
    """``8B``, ``0.5b``, ``135M``, ``8x7B``, ``30B-A3B``; None when it is no size, or no model's."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    scale = 1e9 if found.group(3).lower() == "b" else 1e6
    size = float(found.group(2)) * scale
    experts = int(found.group(1) or 1)
    if not _SMALLEST <= size * experts <= _LARGEST:
        return None
    return Size(parameters=size, experts=experts, active_parameters=float(found.group(4) or 0) * 1e9)


def find_shape(text: str) -> ModelShape | None:
    """A shape by name or size; None: neither known nor a size."""
    wanted = _plain(text)
    exact = next((one for one in KNOWN_SHAPES if _plain(one.name) == wanted), None)
    if exact is not None:
        return exact
    size = parse_size(text)
    if size is not None:
        return _of_size(text, size)
    begins = [one for one in KNOWN_SHAPES if wanted.startswith(_plain(one.name))]
    return max(begins, key=_name_length, default=None)


def near_shapes(text: str) -> tuple[str, ...]:
    """Up to three known names that look like ``text``, for an error message."""
    names = {_plain(one.name): one.name for one in KNOWN_SHAPES}
    return tuple(names[one] for one in difflib.get_close_matches(_plain(text), names, n=3, cutoff=0.4))


def unknown_shape(text: str) -> str:
    """For an error message: near names, else all of them."""
    near = near_shapes(text)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known names are {', '.join(one.name for one in KNOWN_SHAPES)}"


def _of_size(text: str, size: Size) -> ModelShape:
    label = text.strip().lower()
    stand_in = next((one for one in KNOWN_SHAPES if one.name == _STANDS_FOR.get(label)), None)
    stand_in = stand_in or next((one for one in KNOWN_SHAPES if one.name.endswith(f"-{label}")), None)
    if stand_in is not None:
        return replace(stand_in, note=f"what {text.strip()} is taken to be")
    if size.experts > 1:
        return _stretched(text, size, [one for one in KNOWN_SHAPES if one.name.startswith("mixtral")])
    kind = [one for one in KNOWN_SHAPES if bool(one.experts) == bool(size.active_parameters)]
    return _stretched(text, size, kind)


def _stretched(text: str, size: Size, kind: list[ModelShape]) -> ModelShape:
    """The nearest known shape, its depth and width each grown by the cube root of the ratio of sizes."""
    of_one = {one.name: one.parameters / (8 if size.experts > 1 else 1) for one in kind}
    model = min(kind, key=lambda one: abs(math.log(size.parameters / of_one[one.name])))
    ratio = (size.parameters / of_one[model.name]) ** (1 / 3)
    layers = max(1, round(model.layers * ratio))
    hidden = max(64, round(model.hidden * ratio / 64) * 64)
    feed_forward = max(64, round(model.feed_forward * ratio / 64) * 64)
    experts, used = model.experts, model.experts_used
    if size.experts > 1:
        experts = size.experts
    grown = replace(
        model, name=text.strip(), layers=layers, hidden=hidden, feed_forward=feed_forward, experts=experts,
        dense_layers=min(model.dense_layers, layers), kv_layers=_stretched_kinds(model, layers),
    )  # fmt: skip
    if size.experts == 1:
        grown = replace(grown, stated_parameters=round(size.parameters))
        if size.active_parameters and grown.experts:
            used = _used_for(grown, size.active_parameters)
    return replace(grown, experts_used=used, note=f"no model of this size is known; shaped like {model.name}")


def _stretched_kinds(model: ModelShape, layers: int) -> tuple[KvLayers, ...]:
    """The kinds of layers in the model's proportion; the last kind takes what rounding leaves."""
    if not model.kv_layers:
        return ()
    *others, last = model.kv_layers
    kinds = [replace(one, layers=round(one.layers * layers / model.layers)) for one in others]
    return (*kinds, replace(last, layers=max(0, layers - sum(one.layers for one in kinds))))


def _used_for(shape: ModelShape, active: float) -> int:
    """The experts per token that come closest to ``active`` parameters."""
    choices = range(1, shape.experts + 1)
    return min(choices, key=lambda used: abs(replace(shape, experts_used=used).active_parameters - active))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "", name.lower())


def _name_length(shape: ModelShape) -> int:
    return len(shape.name)
