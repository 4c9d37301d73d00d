"""A client that leaves frees its slot: read off the engines' own count."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.support.pool import MODEL, Pool

pytestmark = pytest.mark.model

LONG_ANSWER: dict[str, Any] = {
    "model": f"{MODEL}@q8_0",
    "messages": [{"role": "user", "content": "Tell me everything about rivers."}],
    "max_tokens": 1900,
    "ignore_eos": True,
}
LONG_PROMPT: dict[str, Any] = {
    "model": f"{MODEL}@q8_0",
    "messages": [{"role": "user", "content": "river stone seven green of " * 370}],
    "max_tokens": 100,
    "ignore_eos": True,
}
WELL_INTO_DECODING = 10
"""Steps: each brings one token of the answer."""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("body", [LONG_ANSWER, LONG_PROMPT], ids=["decoding", "prefilling"])
async def test_a_client_that_leaves_frees_its_slot(pool: Pool, body: dict[str, Any], stream: bool) -> None:
    """While it is being answered and in the middle of prefill; the answer would take far longer than the wait."""
    async with httpx.AsyncClient(timeout=60) as client:
        asking = asyncio.create_task(client.post(f"{pool.url}/v1/chat/completions", json={**body, "stream": stream}))
        await pool.until_busy(True)
        if body is LONG_ANSWER:
            await pool.until_steps(WELL_INTO_DECODING)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert asking.cancelled(), "it was answered before its client left"
    await pool.until_busy(False, within_s=8)
