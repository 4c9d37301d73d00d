"""One pool per kind of serving, started by the command its user types, shared by all tests here."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest

from router.ray.settings import port_taken
from tests.support.pool import Pool, running_pool
from tests.support.until import until


@pytest.fixture(
    scope="package", params=["uvicorn", pytest.param("ray", marks=pytest.mark.ray)], ids=["uvicorn", "ray-serve"]
)
def pool(
    request: pytest.FixtureRequest, model_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool]:
    """Router and two workers; afterwards the command has ended well and left no port behind."""
    state_dir = tmp_path_factory.mktemp(f"pool-{request.param}")
    with running_pool(request.param, state_dir, model_files["q8_0"].parent) as pool:
        yield pool
        until(lambda: pool.busy() == 0, "the engines still hold requests nobody waits for")  # by their next report
    assert pool.status == 0, pool.said
    assert not port_taken("127.0.0.1", pool.port)
    assert not port_taken("127.0.0.1", pool.grpc_port)


@pytest.fixture
async def client(pool: Pool) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client."""
    async with openai.AsyncOpenAI(base_url=f"{pool.url}/v1", api_key="none", max_retries=0, timeout=120) as one:
        yield one
