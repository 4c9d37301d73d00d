"""The ``openai`` client, before any fault: every worker answers somebody, at either router."""

import asyncio

from openai import APIError, AsyncOpenAI

from loadtest.chaos.waiting import until

AT_ONCE = 8
WITHIN_S = 120.0
WORDS = "Say something about the sea."


async def served_by(urls: list[str], models: tuple[str, ...], workers: set[str]) -> None:
    """Until each of these workers answered. Raises NotReached with those that did not."""
    missing = set(workers)
    clients = [AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60.0) for url in urls]

    async def one(client: AsyncOpenAI, model: str) -> str:
        try:
            reply = await client.chat.completions.with_raw_response.create(
                model=model, messages=[{"role": "user", "content": WORDS}], max_tokens=8
            )
        except APIError:
            return ""
        return reply.headers.get("x-allsorts-worker", "") if reply.parse().choices else ""

    async def all_answered() -> bool:
        asked = [one(client, model) for client in clients for model in models for _ in range(AT_ONCE)]
        missing.difference_update(await asyncio.gather(*asked))
        return not missing

    try:
        await until(all_answered, WITHIN_S, f"the openai client is served by {', '.join(sorted(workers))}")
    finally:
        for client in clients:
            await client.close()
