"""What the names of models' files, folders and repositories say."""

import pytest

from protos.contract.models.model_name import parse_name, quantization_in


@pytest.mark.parametrize(
    ("name", "model", "fmt", "shard", "shards"),
    [
        ("llama-70b.Q4_K_M-00001-of-00003.gguf", "llama-70b", "q4_k_m", 1, 3),
        ("llama-3.3-70b-instruct-Q4_K_M.gguf", "llama-3.3-70b-instruct", "q4_k_m", 0, 0),
        ("llama-3.3-70b-instruct-IQ2_M.gguf", "llama-3.3-70b-instruct", "iq2_m", 0, 0),
        ("org/Llama-3.3-70B-Instruct-AWQ", "Llama-3.3-70B-Instruct", "awq", 0, 0),
        ("Llama-3.3-70B-Instruct-GPTQ-Int4", "Llama-3.3-70B-Instruct", "gptq", 0, 0),
        ("Llama-3.3-70B-Instruct-GPTQ-Int8/", "Llama-3.3-70B-Instruct", "gptq-int8", 0, 0),
        ("llama3.3:70b-instruct-q4_K_M", "llama3.3:70b-instruct", "q4_k_m", 0, 0),
        ("Qwen3-32B-FP8-dynamic", "Qwen3-32B", "fp8", 0, 0),
        ("gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b", "mxfp4", 0, 0),
        ("Model-BF16-AWQ", "Model-BF16", "awq", 0, 0),
        ("Qwen3-8B", "Qwen3-8B", None, 0, 0),
        ("Q4_K_M.gguf", "Q4_K_M", "q4_k_m", 0, 0),
    ],
)
def test_names_are_taken_apart(name: str, model: str, fmt: str | None, shard: int, shards: int) -> None:
    """The seed's naming conventions, Ollama's tags, and llama.cpp's shards; what stands last was done last."""
    parsed = parse_name(name)
    assert (parsed.model, parsed.shard, parsed.shards) == (model, shard, shards)
    assert (parsed.format.name if parsed.format else None) == fmt


@pytest.mark.parametrize(
    ("name", "model", "quantization"),
    [
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "Qwen3-8B-UD", "q4_k_m"),
        ("Model-IQ2_KS.gguf", "Model", "iq2_ks"),
        ("Model-Q4_0_4_4.gguf", "Model", "q4_0_4_4"),
        ("tiny-q8", "tiny", "q8_0"),
        ("tiny-int4", "tiny", "gptq"),
        ("Mistral-7B-bnb-4bit", "Mistral-7B", "nf4"),
        ("mlx-community/Llama-3.2-3B-Instruct-4bit", "Llama-3.2-3B-Instruct", "mlx-4bit"),
        ("qwen3:q4_0", "qwen3", "q4_0"),
        ("Model-w4a4", "Model", "w4a4"),
        ("phi-bf16.gguf", "phi", "bf16"),
        ("model.F16.gguf", "model", "fp16"),
        ("q4-is-not-a-format.gguf", "q4-is-not-a-format", ""),
        ("half-life", "half-life", ""),
        ("int4-study", "int4-study", ""),
    ],
)
def test_short_and_unknown_words_count_at_the_end_of_a_name(name: str, model: str, quantization: str) -> None:
    """Canonical where a table knows them, else as written; the same word inside a name is the model's own."""
    parsed = parse_name(name)
    assert (parsed.model, parsed.quantization) == (model, quantization)


@pytest.mark.parametrize(
    ("name", "model", "quantization"),
    [
        ("smollm2-135m@q8_0", "smollm2-135m", "q8_0"),
        ("qwen2.5-7b-instruct@Q4_K_M", "qwen2.5-7b-instruct", "q4_k_m"),
        ("gemma@4bit", "gemma", "mlx-4bit"),
        ("house@unknown", "house", "unknown"),
        ("me@home", "me@home", ""),
    ],
)
def test_a_quantization_behind_an_at_is_no_part_of_the_name(name: str, model: str, quantization: str) -> None:
    """Routers like ours and LM Studio list variants so; what is no quantization stays in the name."""
    assert (parse_name(name).model, quantization_in(name)) == (model, quantization)
