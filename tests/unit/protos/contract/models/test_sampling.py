"""How a model's own file says it should be sampled; what nobody can sample with is passed over."""

import json
from pathlib import Path
from typing import Any

import pytest

from protos.contract.models.hf_folder import read_config
from protos.contract.models.sampling import GGUF_NAMES, HF_NAMES, sampling_told
from protos.contract.worker import SamplingDefaults


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, None),
        ({"general.sampling.temp": 0.7}, SamplingDefaults(temperature=0.7)),
        (
            {"general.sampling.top_k": 20, "general.sampling.top_p": 0.8, "general.sampling.penalty_repeat": 1.05},
            SamplingDefaults(top_k=20, top_p=0.8, repetition_penalty=1.05),
        ),
        ({"general.sampling.top_k": -1, "general.sampling.min_p": 0}, SamplingDefaults(top_k=0, min_p=0.0)),
        ({"general.sampling.temp": "hot", "general.sampling.top_p": 0, "general.sampling.min_p": True}, None),
        ({"general.sampling.temp": float("nan")}, None),
    ],
)
def test_gguf_files_tell_it_under_their_own_names(fields: dict[str, Any], told: SamplingDefaults | None) -> None:
    assert sampling_told(fields, GGUF_NAMES) == told


def test_a_folder_tells_it_in_generation_config(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "intermediate_size": 128, "max_position_embeddings": 256,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path / "config.json").shape.sampling is None
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_k": 20}')
    assert read_config(tmp_path / "config.json").shape.sampling == SamplingDefaults(temperature=0.6, top_k=20)
    assert sampling_told({"temperature": 0.6}, HF_NAMES) == SamplingDefaults(temperature=0.6)
