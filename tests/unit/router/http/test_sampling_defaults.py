"""What a request leaves open is drawn as the operator says, else as the model's file does, else as llama.cpp does."""

from typing import Any

import pytest

from protos.contract.request import Sampling
from protos.contract.worker import SamplingDefaults
from router.config import HttpConfig, SamplingConfig
from router.http.dialects.shared.sampling_defaults import (
    CAPACITY,
    KEPT_S,
    USUAL,
    DefaultsBook,
    ModelDefaults,
    defaults_of,
)
from tests.support import fleets
from tests.support.http_surface import surface

OWN = SamplingDefaults(temperature=0.6, top_k=20)
FLEET = fleets.snapshot(fleets.worker("a", fleets.instance()), fleets.worker("b", fleets.instance(sampling=OWN)))


def test_the_models_own_file_comes_before_what_is_usual_and_the_operator_before_both() -> None:
    assert defaults_of("m", FLEET, {}).values == {**USUAL, "temperature": 0.6, "top_k": 20}
    assert defaults_of("other", FLEET, {}).values == USUAL
    said = {"*": SamplingConfig(temperature=0.1, min_p=0.2, max_tokens=99), "m": SamplingConfig(temperature=0.3)}
    found = defaults_of("m", FLEET, said)
    assert found.values == {**USUAL, "temperature": 0.3, "top_k": 20, "min_p": 0.2}
    assert (found.max_tokens, found.context_tokens) == (99, 8192)


def test_a_models_defaults_are_looked_up_in_the_fleet_once_in_a_while() -> None:
    """A fleet of a thousand workers is not searched for every request."""
    book = DefaultsBook({})
    assert book.of("m", FLEET, 0.0).values["top_k"] == 20
    other = fleets.snapshot(fleets.worker("a", fleets.instance(sampling=SamplingDefaults(top_k=5))))
    assert book.of("m", other, KEPT_S / 2).values["top_k"] == 20
    assert book.of("m", other, KEPT_S * 2).values["top_k"] == 5
    for number in range(3 * CAPACITY):
        book.of(f"m{number}", other, 0.0)
    assert len(book._known) <= CAPACITY


def test_only_what_is_open_is_filled() -> None:
    given = Sampling(temperature=0.0, top_p=0.5)
    drawn = ModelDefaults(USUAL).filled(given, frozenset({"top_k", "min_p"}), 10)
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.min_p) == (0.0, 0.5, 40, 0.05)


@pytest.mark.parametrize(("prompt", "limit"), [(100, 500), (300, None)])
def test_a_default_length_never_has_a_prompt_refused(prompt: int, limit: int | None) -> None:
    """Where by the estimate it might not fit, the answer takes what the context leaves."""
    defaults = ModelDefaults(USUAL, max_tokens=500, context_tokens=1000)
    assert defaults.filled(Sampling(), frozenset({"max_tokens"}), prompt).max_tokens == limit


CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/messages", {**CHAT, "max_tokens": 9}),
        ("/v1/responses", {"input": "hi"}),
        ("/api/chat", CHAT),
        ("/api/generate", {"prompt": "hi"}),
    ],
)
async def test_every_dialect_leaves_open_what_its_client_does(path: str, body: dict[str, Any]) -> None:
    """What it gives stands, a temperature of 0 too."""
    on = surface(config=HttpConfig(sampling={"*": SamplingConfig(temperature=0.25, top_k=7)}))
    given = {"options": {"temperature": 0}} if path.startswith("/api") else {"temperature": 0}
    async with on.client() as client:
        assert (await client.post(path, json={"model": "m", **body})).status_code == 200
        assert (await client.post(path, json={"model": "m", **body, **given})).status_code == 200
    first, second = (one.sampling for one in on.pipeline.requests)
    assert (first.temperature, first.top_k, first.top_p) == (0.25, 7, 0.95)
    assert (second.temperature, second.top_k) == (0, 7)


async def test_models_say_how_they_are_sampled() -> None:
    config = HttpConfig(sampling={"m": SamplingConfig(temperature=0.2, max_tokens=64)})
    async with surface(config=config).client() as client:
        body = (await client.get("/v1/models/m")).json()
    assert body["allsorts"]["sampling"] == {**USUAL, "temperature": 0.2, "max_tokens": 64}
