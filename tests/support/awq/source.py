"""The packaged SmolLM2 as a transformers model in full precision, its tokenizer, and text to calibrate on."""

import pydoc_data.topics
from typing import Any

import torch
import transformers

from protos.contract.models.gguf.model import read_gguf
from workers.models.smollm2 import PLAIN_CHATML, packaged_model

SAMPLES, SAMPLE_TOKENS = 16, 256
"""4,096 tokens: beyond them the scales of a model of this size hardly change."""
HELD_BACK = 4
"""Further samples that judge the result and were not calibrated on."""


def source_model() -> tuple[Any, Any, str]:
    """The model with dequantized weights, its tokenizer with the plain template, and what they were made from."""
    path = packaged_model()
    place = {"gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), **place)
    tokenizer.chat_template = PLAIN_CHATML
    loaded = transformers.AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=torch.float32, **place)
    config = loaded.config
    if hasattr(config, "quantization_config"):  # says GGUF; the weights no longer are
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    return model, tokenizer, f"dequantized from {read_gguf(path).quantization}"


def texts(tokenizer: Any) -> list[Any]:
    """Token ids [SAMPLES + HELD_BACK, SAMPLE_TOKENS] of Python's own help texts, evenly spread over them."""
    topics = pydoc_data.topics.topics
    tokens = tokenizer("\n".join(topics[name] for name in sorted(topics)))["input_ids"]
    count = SAMPLES + HELD_BACK
    stride = (len(tokens) - SAMPLE_TOKENS) // (count - 1)
    return [torch.tensor([tokens[n * stride : n * stride + SAMPLE_TOKENS]]) for n in range(count)]


def perplexity(model: Any, samples: list[Any]) -> float:
    """Of the model on the samples."""
    with torch.no_grad():
        losses = [float(model(sample, labels=sample).loss) for sample in samples]
    return float(torch.tensor(losses).mean().exp())
