"""Names of quantizations, as people and files write them."""

from protos.contract.models.quantization import BY_NAME, FORMATS, FileKind, canonical, find_format, near_formats
from router.capacity.engines import ENGINES, LLAMA_CPP, VLLM


def test_every_alias_leads_back_to_one_format() -> None:
    """No alias is claimed twice, in any spelling."""
    claimed: dict[str, str] = {}
    for one in FORMATS:
        for alias in (one.name, *one.aliases):
            for spelling in (alias, alias.upper(), alias.replace("_", "-")):
                assert find_format(spelling) is one, spelling
                assert claimed.setdefault(spelling.lower(), one.name) == one.name


def test_every_format_has_a_source_a_figure_and_an_engine() -> None:
    """A constant without a source is a guess. MLX models are served by servers that already run."""
    for one in FORMATS:
        assert one.source
        assert FileKind.MLX in one.files or any(engine.runs(one) for engine in ENGINES.values())
        assert 1 < one.bits_per_weight <= 32


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
