"""Names of quantizations, and what files' names say."""

import pytest

from router.capacity.engines import ENGINES, LLAMA_CPP, VLLM
from router.capacity.formats import BY_NAME, FORMATS, canonical, find_format, near_formats, parse_name


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


def test_every_alias_leads_back_to_one_format() -> None:
    """No alias is claimed twice, in any spelling."""
    claimed: dict[str, str] = {}
    for one in FORMATS:
        for alias in (one.name, *one.aliases):
            for spelling in (alias, alias.upper(), alias.replace("_", "-")):
                assert find_format(spelling) is one, spelling
                assert claimed.setdefault(spelling.lower(), one.name) == one.name


def test_every_format_has_a_source_a_figure_and_an_engine() -> None:
    """A constant without a source is a guess."""
    for one in FORMATS:
        assert one.source
        assert any(engine.runs(one) for engine in ENGINES.values())
        assert 1.5 < one.bits_per_weight <= 32


def test_engines_run_what_they_run() -> None:
    """GGUF is llama.cpp's, AWQ and GPTQ are vLLM's, full precision is everyone's."""
    for names, engines in ((("q4_k_m",), {LLAMA_CPP}), (("awq", "gptq"), {VLLM}), (("fp16",), {LLAMA_CPP, VLLM})):
        for name in names:
            assert {one for one in ENGINES.values() if one.runs(BY_NAME[name])} == engines


def test_unknown_names_come_with_near_ones() -> None:
    """A typo is met with what was probably meant; nonsense with nothing."""
    assert find_format("q4_m_k") is None
    assert "q4_k_m" in near_formats("q4_m_k")
    assert near_formats("zzzzzz") == ()
    assert canonical(" F16 ") == "fp16"
    assert canonical("Q9_Z") == "q9_z"
