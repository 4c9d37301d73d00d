"""What servers that already run tell of their models, by answers recorded from them or printed in their documents."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.foreign_server import foreign_server
from workers.engines.base import LoadError, ModelSpec
from workers.engines.openai_compatible.discovery import facts_about
from workers.engines.openai_compatible.requests import Flavor
from workers.engines.openai_compatible.server_client import ServerClient
from workers.engines.openai_compatible.servers import ServerFacts
from workers.engines.table import make_engine

RECORDINGS = Path(__file__).parent / "recordings"


def recording(name: str) -> dict[str, Any]:
    said = json.loads((RECORDINGS / f"{name}.json").read_text())
    assert said.pop("source").startswith("https://")
    return dict(said)


async def facts(answers: dict[str, Any], model: str = "") -> ServerFacts:
    """Discovery against a server that gives these answers, and 404 to everything else."""
    async with foreign_server({"GET /v1/models": None} | answers) as url, ServerClient(url) as client:
        return await facts_about(client, model)


async def test_a_model_that_ollama_runs_has_the_context_it_runs_with() -> None:
    """``/api/ps`` knows better than the Modelfile; the size is the file's, not that of all it holds in memory."""
    found = await facts(recording("ollama_running"))
    assert found == ServerFacts(
        flavor=Flavor.OLLAMA,
        model="gemma4",
        quantization="q4_k_m",
        context_tokens=4096,
        parameters=8_000_000_000,
        weights_bytes=9_608_350_245,
        version="0.12.6",
        told=frozenset({"vision"}),
    )


async def test_a_model_that_ollama_does_not_run_yet_has_the_context_it_would_get() -> None:
    """Not what it was trained with: Ollama's default, or what the Modelfile sets."""
    answers = recording("ollama_idle")
    found = await facts(answers, "llama3:latest")
    assert (found.quantization, found.parameters, found.weights_bytes) == ("q4_0", 8_030_261_248, 3_825_819_519)
    assert found.context_tokens == 4096
    answers["POST /api/show"]["parameters"] += "\nnum_ctx                        6144"
    assert (await facts(answers, "llama3:latest")).context_tokens == 6144
    answers["POST /api/show"]["parameters"] = "num_ctx 65536"
    assert (await facts(answers, "llama3:latest")).context_tokens == 8192, "more than it was trained with"


async def test_of_several_models_one_must_be_named() -> None:
    """The error lists what there is."""
    with pytest.raises(LoadError, match="codellama:13b, llama3:latest"):
        await facts(recording("ollama_idle"))
    with pytest.raises(LoadError, match="does not have mistral"):
        await facts(recording("ollama_idle"), "mistral")


async def test_lm_studio_tells_quantization_and_context() -> None:
    """A loaded model's context, else the one it would be loaded with."""
    answers = recording("lm_studio")
    loaded = await facts(answers, "meta-llama-3.1-8b-instruct")
    assert (loaded.flavor, loaded.quantization, loaded.context_tokens) == (Flavor.LM_STUDIO, "q4_k_m", 16_384)
    resting = await facts(answers, "qwen2-vl-7b-instruct")
    assert (resting.quantization, resting.context_tokens) == ("mlx-4bit", 4096)


@pytest.mark.parametrize(
    ("name", "flavor", "quantization", "context"),
    [("vllm", Flavor.VLLM, "awq", 4096), ("mlx_lm", Flavor.PLAIN, "mlx-4bit", 0)],
)
async def test_others_say_little_and_the_name_says_the_rest(
    name: str, flavor: Flavor, quantization: str, context: int
) -> None:
    """Names of models as people publish them carry their quantization."""
    found = await facts(recording(name))
    assert (found.flavor, found.quantization, found.context_tokens) == (flavor, quantization, context)


@pytest.mark.parametrize("said", [[], "gone", {"models": "none"}, {"models": [{}]}, {"data": [1]}])
async def test_answers_that_make_no_sense_are_no_facts(said: Any) -> None:
    """A server that speaks OpenAI's API is used, whatever else it says."""
    listed = {"data": [{"id": "tiny-q8_0"}]}
    for path in ("GET /props", "POST /api/show", "GET /api/ps", "GET /api/v0/models"):
        found = await facts({"GET /v1/models": listed, path: said})
        assert (found.flavor, found.quantization) == (Flavor.PLAIN, "q8_0")
    shown = {"details": {"quantization_level": "Q4_0"}}
    found = await facts({"GET /v1/models": listed, "POST /api/show": shown, "GET /api/ps": said, "GET /api/tags": said})
    assert (found.flavor, found.quantization, found.weights_bytes) == (Flavor.OLLAMA, "q4_0", 0)


async def test_a_variant_behind_an_at_keeps_its_name_upstream_and_tells_its_quantization() -> None:
    """Another router of ours, or LM Studio: the id goes back to the server as it came."""
    listed = {"GET /v1/models": {"data": [{"id": "smollm2-135m"}, {"id": "smollm2-135m@Q8_0"}]}}
    found = await facts(listed, "smollm2-135m@Q8_0")
    assert (found.model, found.quantization) == ("smollm2-135m@Q8_0", "q8_0")


async def test_a_name_nobody_could_ask_for_is_refused_with_one_line() -> None:
    """The router would take what stands behind @ for a quantization."""
    engine = make_engine("openai")
    spec = ModelSpec(name="me@home", path="http://127.0.0.1:9/v1", options={"upstream_model": "me@home"})
    with pytest.raises(LoadError, match=r"no client can ask for 'me@home'.*--model NAME=me@home"):
        await engine.load(spec, lambda _fraction, _message: None)
    await engine.close()
