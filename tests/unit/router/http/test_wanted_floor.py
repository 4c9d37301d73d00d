"""A floor in ``fleet.toml``: for requests that name no quantization of their own."""

from dataclasses import replace

import pytest

from router.config import HttpConfig
from router.domain.snapshot import WantedModel
from tests.support.http_surface import surface


@pytest.mark.parametrize(
    ("asked", "floor", "pinned"),
    [("m", "q6_k", None), ("m@q4_k_m", None, "q4_k_m"), ("m@>=q8_0", "q8_0", None)],
)
async def test_a_wanted_models_floor_holds_where_a_request_says_nothing(
    asked: str, floor: str | None, pinned: str | None
) -> None:
    """It goes before the configured one; what a client names goes before both."""
    on = surface(config=HttpConfig(quality_floors={"m": "q4_k_m"}))
    on.fleet._snapshot = replace(on.fleet.snapshot(), wanted={"m": WantedModel(floor="q6_k")})
    assert (await on.chat(model=asked)).status_code == 200
    model = on.pipeline.requests[0].model
    assert (model.floor, model.pinned) == (floor, pinned)
