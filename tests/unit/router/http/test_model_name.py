"""Model names with rules of quality in them."""

import pytest

from router.domain.request import ModelRef
from router.errors import ConfigError, InvalidRequest
from router.http.dialects.shared.model_name import default_floors, parse_floor, parse_model


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("m", ModelRef(name="m")),
        ("org/m-7b:latest", ModelRef(name="org/m-7b:latest")),
        ("m@Q4_K_M", ModelRef(name="m", pinned="q4_k_m")),
        ("m@f16", ModelRef(name="m", pinned="fp16")),
        ("m@house-blend", ModelRef(name="m", pinned="house-blend")),
        ("m@>=q6_k", ModelRef(name="m", floor="q6_k")),
        ("m@>=GPTQ-Int4", ModelRef(name="m", floor="gptq")),
    ],
)
def test_rules_are_read_and_named_canonically(text: str, ref: ModelRef) -> None:
    """A pin may be a worker's own name for it; a floor must be a quantization whose loss is known."""
    assert parse_model(text) == ref


@pytest.mark.parametrize(
    ("text", "says"), [("q4_m_k", "did you mean"), ("q9_z", "quantization"), ("best", "unknown quantization 'best'")]
)
def test_a_floor_that_nothing_can_be_compared_with_is_refused_with_near_matches(text: str, says: str) -> None:
    """Never dropped in silence, never a pool in which nobody is good enough."""
    with pytest.raises(InvalidRequest) as raised:
        parse_floor(text, param="quality")
    assert raised.value.param == "quality"
    assert says in raised.value.message


def test_default_floors_are_named_canonically_and_a_wrong_one_stops_the_start() -> None:
    """The line names the model whose floor is wrong."""
    assert default_floors({"m": "Q6-K"}) == {"m": "q6_k"}
    with pytest.raises(ConfigError, match=r"model 'm': .*did you mean"):
        default_floors({"m": "q4_m_k"})
