"""Quantize the small model and write the folder that vLLM loads; also the same model in full precision."""

import json
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file

from protos.contract.models.hf_config import LINEAGE_KEY
from tests.support.awq.packing import BITS, Groups, tensors
from tests.support.awq.scaling import quantize_layer, sharings
from tests.support.awq.source import SAMPLES, perplexity, source_model, texts

GROUP = 64
"""Divides 576 and 1,536, this model's widths; the usual 128 does not."""
KEPT_INPUTS = 512
"""Activations kept for a layer's search: as many as the narrow inputs have channels."""


def make_awq(folder: Path, plain: Path | None = None) -> None:
    """Write the AWQ model to ``folder`` and, if asked for, the full-precision one to ``plain``. Raises WorkerError."""
    started = time.monotonic()
    model, tokenizer, lineage = source_model()
    samples = texts(tokenizer)
    if plain is not None:
        _write(plain, model, tokenizer, _plain_tensors(model), {LINEAGE_KEY: lineage, "dtype": "float16"})
    before = perplexity(model, samples[SAMPLES:])
    found: dict[str, Groups] = {}
    walk = _Walk(model, samples[:SAMPLES])
    layers = model.config.num_hidden_layers
    for layer in range(layers):
        found |= walk.quantize(layer)
        if (layer + 1) % 10 == 0:
            _say(f"layer {layer + 1} of {layers} after {time.monotonic() - started:.0f} s")
    after = perplexity(model, samples[SAMPLES:])
    _say(f"perplexity on held-back text: {before:.2f} before, {after:.2f} after")
    quantization = {
        "quant_method": "awq", "bits": BITS, "group_size": GROUP, "zero_point": True, "version": "gemm",
    }  # fmt: skip
    extra = {
        LINEAGE_KEY: f"{lineage}, then awq",
        "dtype": "float16",
        "quantization_config": quantization,
        "allsorts_perplexity": {"before": before, "after": after},
    }
    _write(folder, model, tokenizer, _awq_tensors(model, found), extra)
    _say(f"wrote {folder} after {time.monotonic() - started:.0f} s")


class _Walk:
    """Carries the samples through the model layer by layer, so that each layer runs twice and not thirty times."""

    def __init__(self, model: Any, samples: list[Any]) -> None:
        self._model = model
        self._calls: list[tuple[Any, dict[str, Any]]] = []  # hidden states, and what every layer is called with
        caught = model.model.layers[0].register_forward_pre_hook(self._catch, with_kwargs=True)
        with torch.no_grad():
            for sample in samples:
                try:
                    model.model(sample, use_cache=False)
                except _CaughtError:
                    continue
        caught.remove()

    def _catch(self, _module: Any, read: tuple[Any, ...], more: dict[str, Any]) -> None:
        self._calls.append(
            (read[0] if read else more["hidden_states"], {k: v for k, v in more.items() if k != "hidden_states"})
        )
        raise _CaughtError

    def quantize(self, layer: int) -> dict[str, Groups]:
        """Calibrate one layer on what the layers before, already quantized, make of the samples."""
        modules = dict(self._model.named_modules())
        names = [name for sharing in sharings(layer) for name in sharing.layers]
        seen: dict[str, list[Any]] = defaultdict(list)

        def listen(name: str) -> Any:
            return modules[name].register_forward_hook(lambda _module, read, _out: seen[name].append(read[0][0]))

        hooks = [listen(name) for name in names]
        self._run(layer)
        for hook in hooks:
            hook.remove()
        found = quantize_layer(
            modules, {name: _thinned(torch.cat(parts)) for name, parts in seen.items()}, layer, GROUP
        )
        self._calls = self._run(layer)
        return found

    def _run(self, layer: int) -> list[tuple[Any, dict[str, Any]]]:
        called = self._model.model.layers[layer]
        with torch.no_grad():
            outs = [called(hidden, **more) for hidden, more in self._calls]
        hidden_states = [out[0] if isinstance(out, tuple) else out for out in outs]
        return [(hidden, more) for hidden, (_, more) in zip(hidden_states, self._calls, strict=True)]


class _CaughtError(Exception):
    """The first layer's input is known; nothing further need be computed."""


def _thinned(inputs: Any) -> Any:
    return inputs[:: max(1, len(inputs) // KEPT_INPUTS)]


def _plain_tensors(model: Any) -> dict[str, Any]:
    return {
        name: value.detach().to(torch.float16).contiguous().numpy()
        for name, value in model.state_dict().items()
        if not (name == "lm_head.weight" and model.config.tie_word_embeddings)
    }


def _awq_tensors(model: Any, found: dict[str, Groups]) -> dict[str, Any]:
    plain = _plain_tensors(model)
    packed = {f"{name}.{part}": value for name, groups in found.items() for part, value in tensors(groups).items()}
    return {name: value for name, value in plain.items() if name.removesuffix(".weight") not in found} | packed


def _write(folder: Path, model: Any, tokenizer: Any, weights: dict[str, Any], extra: dict[str, Any]) -> None:
    """Into a folder beside, then renamed: a half-written model is never found."""
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    tokenizer.save_pretrained(str(unfinished))
    save_file(weights, str(unfinished / "model.safetensors"), metadata={"format": "pt"})
    config = json.loads(model.config.to_json_string(use_diff=False)) | extra
    config["architectures"] = ["LlamaForCausalLM"]
    (unfinished / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _say(what: str) -> None:
    print(f"awq: {what}", file=sys.stderr, flush=True)
