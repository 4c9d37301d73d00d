"""Whatever a client sends to a real router with a real worker behind it: no 5xx, no hang, and nothing left running."""

from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from tests.support.one_pool import OnePool, one_pool

MODEL = "m"
PROFILE = """machine = "m1-max-64gb"
[model]
shape = "llama-3.1-8b"
quantization = "q8_0"
context_tokens = 2048
slots = 8
[speed]
base_s = 0.0005
per_sequence_s = 0.0001
per_context_token_s = 1e-9
prefill_tokens_per_s = 1000000
"""
ANSWERED_WITHIN_S = 60.0
OPERATIONS = {
    "POST /v1/chat/completions": 120, "POST /v1/completions": 120, "GET /v1/models/{model}": 20,
    "POST /v1/embeddings": 60, "POST /v1/responses": 60, "POST /v1/messages": 60, "POST /v1/messages/count_tokens": 60,
    "POST /api/chat": 60, "POST /api/generate": 60, "POST /api/show": 20,
}  # fmt: skip
REACHED = 5
"""Requests that are let in at the least; a fifth usually is."""
WORDS = st.text(min_size=1, max_size=200) | st.text(min_size=1, max_size=20) | st.none()
WISHES = ["deadline_s", "slo", "quality"]
"""What may rightly be answered with a 5xx: nobody can be so quick, or is so exact."""
SPARE_FILES = 32
"""Files a router may hold open more than before: connections that are kept alive."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnePool]:
    """One router, one simulated worker that answers in milliseconds."""
    folder = tmp_path_factory.mktemp("fuzzed")
    profile = folder / "profile.toml"
    profile.write_text(PROFILE)
    with one_pool(folder) as up, up.working("sim", "--engine", "simulated", "--model", f"{MODEL}={profile}"):
        up.until(lambda: up.models("sim").get(MODEL, {}).get("state") == "ready")
        assert up.chat(MODEL).status_code == 200
        yield up


def for_the_model(body: dict[str, Any], kept: int, words: str | None) -> None:
    """Asks for the model that is there, for an answer that ends soon, with few of the other parameters that were drawn
    and, with ``words``, one plain message: else hardly a request would be let in, since each may forbid the others.
    """
    for name in sorted(body.keys() - {"model", "messages", "prompt", "input", "max_tokens"})[kept:] + WISHES:
        body.pop(name, None)
    body["model"] = MODEL
    if words is not None and "messages" in body:
        body["messages"] = [{"role": "user", "content": words}]
    if words is not None and "input" in body:
        body["input"] = words
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if isinstance(body.get(name), int) and body[name] > 64:
            body[name] = 64


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_request_makes_a_5xx_a_hang_or_a_leak(pool: OnePool, operation: str) -> None:
    """Half of the cases follow the document, half break it; most of the former reach the worker."""
    method, path = operation.split()
    document = httpx.get(f"{pool.url}/openapi.json", timeout=60).json()
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    router = psutil.Process(pool.router_pid)
    files, statuses = router.num_fds(), []

    @given(data=st.data())
    @settings(
        max_examples=OPERATIONS[operation],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(data: st.DataObject) -> None:
        modes = schemathesis.GenerationMode
        mode = data.draw(st.sampled_from([modes.POSITIVE, modes.POSITIVE, modes.NEGATIVE]))
        case = data.draw(schema[path][method].as_strategy(generation_mode=mode))
        if isinstance(case.body, dict):
            for_the_model(case.body, data.draw(st.integers(0, 3)), data.draw(WORDS))
        reply = case.call(base_url=pool.url, timeout=ANSWERED_WITHIN_S)
        statuses.append(reply.status_code)
        assert reply.status_code < 500, reply.text[:500]

    ask()
    if method == "POST":
        assert statuses.count(200) >= REACHED, f"hardly any request reached the worker: {statuses}"
    pool.until(lambda: [pool.worker("sim")[name] for name in ("running", "waiting")] == [0, 0])
    pool.until(lambda: router.num_fds() <= files + SPARE_FILES)
