"""The formats of weights that vLLM takes on this device, each really loaded and asked."""

import math
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from protos.contract.models.quantization import canonical
from protos.contract.worker import ModelInstance
from tests.contract.engines.rigs import run_elsewhere
from workers.engines.base import Engine, LoadError, ModelSpec
from workers.engines.table import make_engine
from workers.engines.vllm.core.options import environment, options_of

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(run_elsewhere("vllm")), reason=run_elsewhere("vllm")),
]

TEXT = (
    "The sun rises in the east and sets in the west. Water boils at a hundred degrees. Paris is the capital of France, "
    "and Berlin is the capital of Germany. Children learn to read and write at school."
)
WORSE_AT_MOST = {"fp16": 1.0, "w8a8": 1.1, "gptq": 1.7, "w4a16": 1.7}
"""Perplexity against full precision, 13.1: 12.4 at eight bits, 19.3 at four here. Plain rounding costs a model this
small a good deal; a format that is read wrongly costs it everything."""
FULL_PRECISION = 13.1


async def load(engine: Engine, kind: str, awq_folder: Path, here: Path) -> ModelInstance:
    from tests.support.quantized_folders import make  # safetensors is in vLLM's environment only

    plain = awq_folder.with_name(awq_folder.name.replace("-awq", "-fp16"))
    folder = make(kind, plain, here / kind)
    return await engine.load(
        ModelSpec(name="m", path=str(folder), context_tokens=256, slots=2), lambda _fraction, _message: None
    )


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    one = make_engine("vllm")
    yield one
    await one.close()


@pytest.mark.parametrize("kind", WORSE_AT_MOST)
async def test_a_format_is_read_as_it_is_meant(kind: str, engine: Engine, awq_folder: Path, tmp_path: Path) -> None:
    """Its name comes from config.json, and its perplexity is that of its rounding."""
    loaded = await load(engine, kind, awq_folder, tmp_path)
    assert loaded.quantization == canonical(kind)
    assert loaded.parameters == 134_515_008
    scored = await engine.score("m", loaded.quantization, TEXT)
    perplexity = math.exp(-sum(scored.logprobs) / len(scored.logprobs))
    assert perplexity < WORSE_AT_MOST[kind] * FULL_PRECISION * 1.02


async def test_a_format_without_kernels_for_the_device_is_refused_before_anything_starts(
    engine: Engine, awq_folder: Path, tmp_path: Path
) -> None:
    """FP8 on a CPU: vLLM would load it, and compute no numbers, or for minutes: as the processor is."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        assert (await load(engine, "fp8", awq_folder, tmp_path)).quantization == "fp8"
        return
    with pytest.raises(LoadError, match="unsupported quantization fp8: vLLM has no kernels for it on processors"):
        await load(engine, "fp8", awq_folder, tmp_path)
    assert engine.models == ()


async def test_a_model_that_computes_no_numbers_is_refused(engine: Engine, awq_folder: Path, tmp_path: Path) -> None:
    """It loads, and all its logits are NaN. Its first step tells, before anybody is answered."""
    from safetensors.numpy import load_file, save_file

    plain = awq_folder.with_name(awq_folder.name.replace("-awq", "-fp16"))
    folder = shutil.copytree(plain, tmp_path / "nan")
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(LoadError, match="what it computes are not numbers"):
        await engine.load(ModelSpec(name="m", path=str(folder), context_tokens=256, slots=2), lambda *_: None)
    assert engine.models == ()


@pytest.mark.parametrize("on_cpu", [True, False])
def test_vllm_knows_every_variable_that_is_set_for_it(on_cpu: bool) -> None:
    """A misspelt one is read by nobody: the core was forked on the first GPU it met, where a fork cannot use CUDA."""
    from vllm.envs import environment_variables

    names = environment(options_of(ModelSpec(name="m", path="m")), on_cpu=on_cpu)
    ours = {name for name in (*names, "VLLM_LOGGING_CONFIG_PATH") if name.startswith("VLLM_")}
    assert ours <= set(environment_variables)
