"""``allsorts chat`` when it cannot ask: the router's own reason, and what to do."""

from typing import Any

import httpx
import pytest

from router.cli.chat import _first_model
from router.errors import ConfigError


def answering(status: int, body: Any) -> httpx.Client:
    reply = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    return httpx.Client(base_url="http://127.0.0.1:8000", transport=reply)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, {"error": {"message": "Incorrect API key provided."}}, "provided.; give a key with --key"),
        (403, {"error": {"message": "The API key lacks the scope 'serve'"}}, "lacks the scope 'serve'"),
        (500, ["?"], "HTTP 500"),
        (200, {"error": "?"}, "is this an allsorts router?"),
        (200, {"data": []}, "no worker serves a model yet"),
    ],
)
def test_a_list_of_models_that_does_not_come_is_told_as_it_is(status: int, body: Any, says: str) -> None:
    """A pool that asks for a key once looked like one without models."""
    with pytest.raises(ConfigError) as refusal:
        _first_model(answering(status, body))
    assert says in refusal.value.message


def test_the_first_model_without_a_quantization_is_asked() -> None:
    """``name`` leaves the choice to the router."""
    assert _first_model(answering(200, {"data": [{"id": "m@q8_0"}, {"id": "m"}]})) == "m"
