"""Shapes of models: published counts, sizes as people write them, and what stands in for what is not known."""

import pytest

from router.capacity.shapes import KNOWN_SHAPES, find_shape, near_shapes, parse_size, unknown_shape

PUBLISHED: dict[str, tuple[float, float]] = {
    "smollm2-135m": (134_515_008, 134_515_008),
    "llama-3.2-1b": (1_235_814_400, 1_235_814_400),
    "llama-2-7b": (6_738_415_616, 6_738_415_616),
    "llama-3.1-8b": (8_030_261_248, 8_030_261_248),
    "qwen2.5-7b": (7_615_616_512, 7_615_616_512),
    "qwen3-32b": (32_762_123_264, 32_762_123_264),
    "llama-3.3-70b": (70_553_706_496, 70_553_706_496),
    "llama-3.1-405b": (405_853_388_800, 405_853_388_800),
    "mixtral-8x7b": (46_702_792_704, 12_879_925_248),
    "qwen3-30b-a3b": (30.5e9, 3.3e9),
    "deepseek-v3-671b": (671e9, 37e9),
}
"""Parameters in all and active, from the models' safetensors indices and cards."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_follow_from_the_shape(name: str) -> None:
    """Counted from layers and widths, they are what the authors publish, within half a percent (active: two)."""
    shape = find_shape(name)
    assert shape is not None
    parameters, active = PUBLISHED[name]
    assert shape.parameters == pytest.approx(parameters, rel=0.005)
    assert shape.active_parameters == pytest.approx(active, rel=0.02)


@pytest.mark.parametrize(
    ("text", "billions", "experts", "active"),
    [("8B", 8, 1, 0), ("0.5b", 0.5, 1, 0), ("135M", 0.135, 1, 0), ("8x7B", 7, 8, 0), ("30B-A3B", 30, 1, 3)],
)
def test_sizes_are_read(text: str, billions: float, experts: int, active: float) -> None:
    """As they stand in models' names."""
    size = parse_size(text)
    assert size is not None
    assert size.parameters == pytest.approx(billions * 1e9)
    assert (size.experts, size.active_parameters) == (experts, active * 1e9)


@pytest.mark.parametrize("text", ["", "B", "70", "70G", "99999B", "-7B", "7B8", "0.0000001b"])
def test_what_is_no_size_is_none(text: str) -> None:
    """Nothing is guessed."""
    assert parse_size(text) is None


@pytest.mark.parametrize("text", ["11B", "33B", "1.1B", "150B", "4x7B", "100B-A12B"])
def test_an_unknown_size_is_shaped_like_its_neighbour_and_says_so(text: str) -> None:
    """Parameters as asked, within a tenth, and a note that names the model it was shaped like."""
    shape, size = find_shape(text), parse_size(text)
    assert shape is not None
    assert size is not None
    assert "shaped like" in shape.note
    assert shape.parameters == pytest.approx(
        size.parameters * size.experts, rel=0.1 if size.experts == 1 else 0.3
    )  # experts share attention
    assert shape.active_parameters <= shape.parameters
    if size.active_parameters:
        assert shape.active_parameters == pytest.approx(size.active_parameters, rel=0.2)


def test_a_size_that_is_known_names_its_model() -> None:
    """70B is Llama 3.3, and the reader is told."""
    shape = find_shape("70B")
    assert shape is not None
    assert shape.note == "what 70B is taken to be"
    assert find_shape("Llama-3.3-70B-Instruct") == next(one for one in KNOWN_SHAPES if one.name == "llama-3.3-70b")


def test_unknown_names_come_with_near_ones() -> None:
    """For the error message."""
    assert find_shape("lama-3.3") is None
    assert "llama-3.3-70b" in near_shapes("lama-3.3")
    assert unknown_shape("lama-3.3").startswith("did you mean ")
    assert all(one.name in unknown_shape("xyzzy") for one in KNOWN_SHAPES)
