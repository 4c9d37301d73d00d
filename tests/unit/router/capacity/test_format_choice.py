"""The decision matrix, row by row, and the seed's "When Not to Quantize"."""

import pytest

from router.capacity.fit import FitResult, Plan
from router.capacity.format_choice import (
    COMFORTABLE_TOKENS_PER_S,
    FormatChoice,
    Purpose,
    Question,
    choose_format,
    comfortable,
)
from router.capacity.machine_text import parse_machine
from router.capacity.options import options
from router.capacity.shapes import find_shape


def ask(
    model: str,
    machine: str,
    *,
    purpose: Purpose = Purpose.PRODUCTION,
    quality_first: bool = False,
    plan: Plan | None = None,
) -> FormatChoice:
    """The decision for a model on a machine, at 4096 tokens unless said otherwise."""
    shape = find_shape(model)
    assert shape is not None
    where = parse_machine(machine)
    found = options(shape, where, plan or Plan(context_tokens=4096))
    chosen = choose_format(
        Question(shape=shape, machine=where, options=found, purpose=purpose, quality_first=quality_first)
    )
    assert chosen.reasons
    assert all(reason and "\n" not in reason for reason in chosen.reasons)
    return chosen


ROWS = [
    ("70B", "2x A100 80GB", "awq", "vllm"),  # production, 2 GPUs or more
    ("70B", "2x RTX 4090", "awq", "vllm"),
    ("8B", "RTX 4090", "awq", "vllm"),  # one GPU and it fits
    ("70B", "H100", "awq", "vllm"),  # FP8 would leave no room for a batch
    ("70B", "2x H100", "fp8", "vllm"),  # native FP8: more throughput
    ("8B", "A100 80GB", "fp16", "vllm"),  # memory is not short: full precision is faster there
    ("70B", "RTX 4090 + 64GB", "q4_k_m", "llama.cpp"),  # one GPU and it does not fit: offload
    ("70B", "M4 Max 128GB", "q4_k_m", "llama.cpp"),  # a Mac: GGUF
    ("8B", "M4 Max 128GB", "q8_0", "llama.cpp"),  # near lossless where speed and memory allow
    ("8B", "cpu 32GB", "q4_k_m", "llama.cpp"),  # no GPU
    ("3B", "RTX 3080", "fp16", "vllm"),  # under 7B: not quantized where it fits
    ("3B", "M1 16GB", "q8_0", "llama.cpp"),
]


@pytest.mark.parametrize(("model", "machine", "fmt", "engine"), ROWS)
def test_production_follows_the_matrix(model: str, machine: str, fmt: str, engine: str) -> None:
    """FACTS.md, "Decision matrix"."""
    choice = ask(model, machine).option
    assert choice is not None
    assert (choice.format.name, str(choice.engine)) == (fmt, engine)


def test_words_about_speed_agree_with_the_figures_shown() -> None:
    """A row that shows 10.0 writes ten tokens a second; 9.9 does not, and the reason names what is reached."""
    assert comfortable(9.97)
    assert not comfortable(9.94)
    for machine in ("M4 Max 128GB", "M3 Max 40c 128GB", "M3 Ultra 96GB", "cpu 64GB", "M1 16GB"):
        for model in ("8B", "14B", "70B"):
            chosen = ask(model, machine)
            if chosen.option is None or chosen.option.fit.result is not FitResult.FITS:
                continue
            shown = f"{chosen.option.tokens_per_s:.1f}"
            if any("of four bits or more writes 10 tokens/s here" in one for one in chosen.reasons):
                assert float(shown) < COMFORTABLE_TOKENS_PER_S
                assert shown in chosen.reasons[-1]


def test_awq_is_not_said_to_save_memory_that_is_not_short() -> None:
    """By what stands against 16 bits: they do not fit, they leave no batch, or bandwidth decides."""
    for model, machine, why in (
        ("70B", "2x RTX 4090", "16 bits do not fit"),
        ("8B", "RTX 4090", "from the KV cache"),
        ("8B", "RTX PRO 6000", "leave room too"),
    ):
        chosen = ask(model, machine)
        assert chosen.option is not None
        assert chosen.option.format.name == "awq"
        assert why in chosen.reasons[-1], (model, machine)


def test_an_experiment_takes_what_needs_no_preparation() -> None:
    """bitsandbytes NF4 on a GPU, GGUF elsewhere."""
    on_gpu, on_mac = (ask("8B", machine, purpose=Purpose.EXPERIMENT).option for machine in ("RTX 4090", "M1 16GB"))
    assert on_gpu is not None
    assert on_gpu.format.name == "nf4"
    assert on_mac is not None
    assert on_mac.format.gguf


def test_a_local_machine_takes_gguf_even_with_a_gpu() -> None:
    """Q8_0 when it fits and is fast enough, else the best that is."""
    choice = ask("8B", "RTX 4090", purpose=Purpose.LOCAL).option
    assert choice is not None
    assert choice.format.name == "q8_0"


def test_quality_first_takes_full_precision_then_eight_bits_then_nothing() -> None:
    """Medical, legal: never four bits, and the reason says what would help."""
    whole, eight = (ask("70B", machine, quality_first=True) for machine in ("4x H100", "A100 80GB"))
    none = ask("70B", "RTX 4090 + 64GB", quality_first=True)
    assert whole.option is not None
    assert not whole.option.format.quantized
    assert eight.option is not None
    assert eight.option.format.name in ("fp8", "q8_0", "gptq-int8")
    assert "your own prompts" in eight.reasons[0]
    assert none.option is None
    assert "larger machine" in none.reasons[0]


def test_a_last_resort_says_what_it_loses() -> None:
    """Below four bits only when nothing else fits, with the loss in the reason."""
    chosen = ask("70B", "M2 Pro 48GB")
    assert chosen.option is not None
    assert chosen.option.format.name == "q3_k_m"
    assert any("perplexity" in reason for reason in chosen.reasons)


def test_nothing_is_recommended_that_does_not_fit() -> None:
    """405B on a laptop: no choice, and how much is missing."""
    chosen = ask("405B", "M1 16GB")
    assert chosen.option is None
    assert "GiB" in chosen.reasons[-1]


@pytest.mark.parametrize("model", ["0.5B", "8B", "14B", "32B", "70B", "8x7B", "30B-A3B"])
@pytest.mark.parametrize("machine", ["M1 16GB", "M4 Max 128GB", "RTX 3080", "RTX 4090 + 64GB", "H100", "cpu 64GB"])
@pytest.mark.parametrize("purpose", Purpose)
def test_every_choice_runs_and_everything_else_has_its_reason(model: str, machine: str, purpose: Purpose) -> None:
    """No recommendation that does not fit; what was passed over says why."""
    chosen = ask(model, machine, purpose=purpose)
    if chosen.option is not None:
        assert chosen.option.fit.result in (FitResult.FITS, FitResult.OFFLOADS)
        assert chosen.option.tokens_per_s > 0
        assert chosen.option.format.name not in dict(chosen.passed_over)
    assert all(why for _, why in chosen.passed_over)


def test_a_mac_gets_the_best_that_is_still_comfortable() -> None:
    """The next better format would have been too slow, or does not exist."""
    chosen = ask("70B", "M4 Max 128GB")
    assert chosen.option is not None
    assert chosen.option.tokens_per_s >= COMFORTABLE_TOKENS_PER_S
