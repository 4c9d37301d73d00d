"""Under Ray Serve the router's process may be killed: what comes meanwhile waits, and is answered."""

import asyncio

import openai
import psutil
import pytest

from tests.support.pool import MODEL, Pool
from tests.support.processes import command_line, family_of
from tests.support.until import until

pytestmark = pytest.mark.model


def router_replicas(pool: Pool) -> list[psutil.Process]:
    return [one for one in family_of(pool.process_id) if command_line(one).startswith("ray::ServeReplica")]


def states(pool: Pool) -> list[str]:
    """Those who come after find the pool as it was."""
    return [worker["state"] for worker in pool.workers()]


async def test_requests_of_the_moment_in_which_the_router_is_killed_are_answered(
    pool: Pool, client: openai.AsyncOpenAI
) -> None:
    """They reach this pool's next replica, which does not deny the model while its workers are still dialling in."""
    if pool.kind != "ray":
        pytest.skip("under uvicorn the router is the command: killed, it is gone")
    (replica,) = router_replicas(pool)
    replica.kill()
    await asyncio.to_thread(psutil.wait_procs, [replica], 10)
    answers = await asyncio.gather(
        *(
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Say something."}], max_tokens=4, temperature=0
            )
            for _ in range(8)
        )
    )
    assert {answer.choices[0].finish_reason for answer in answers} == {"length"}
    successors = router_replicas(pool)
    assert successors
    assert replica.pid not in {one.pid for one in successors}
    await asyncio.to_thread(until, lambda: states(pool) == ["ready", "ready"], lambda: states(pool), within_s=60)
