"""``make bench-router``: the backend keeps its pace for everybody, the client counts, rows subtract within a round."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtest.bench.router.measure import Cell
from loadtest.bench.router.paced_backend import AT_ONCE, STEP_S, Connection, PacedEngine
from loadtest.bench.router.rows import row, table, unpaced
from loadtest.bench.router.stream_client import figures, many, paced


@pytest.fixture
async def backend() -> AsyncIterator[str]:
    engines = {name: PacedEngine(name) for name in STEP_S}
    server = await asyncio.get_running_loop().create_server(lambda: Connection(engines), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)  # connections that clients dropped


@pytest.mark.parametrize("model", ["paced", "unpaced"])
async def test_every_stream_brings_its_tokens(backend: str, model: str) -> None:
    heard = await many(backend, model, streams=40, concurrent=8, tokens=20, first=0)
    found = figures(heard, 20, 1.0)
    assert (found["streams"], found["failed"], found["tokens"]) == (40, 0, 800)
    arrivals = 20 if STEP_S[model] else -(-20 // AT_ONCE)
    assert all(1 <= len(one.at) <= arrivals + 1 for one in heard)


async def test_streams_at_a_rate_begin_whether_or_not_others_have_ended(backend: str) -> None:
    """All of them, in the same order and at the same times for everybody."""
    heard = await paced(backend, "paced", streams=40, rate=2000.0, tokens=20, first=0)
    assert figures(heard, 20, 1.0)["failed"] == 0
    assert sum(one.tokens for one in heard) == 800
    assert [one.sent for one in heard] == sorted(one.sent for one in heard)
    nowhere = await paced("http://127.0.0.1:9", "paced", streams=3, rate=2000.0, tokens=5, first=0)
    assert figures(nowhere, 5, 1.0)["failed"] == 3


async def test_a_stream_that_is_short_counts_as_failed(backend: str) -> None:
    heard = await many(backend, "paced", streams=4, concurrent=2, tokens=5, first=0)
    assert figures(heard, 6, 1.0)["failed"] == 4
    nowhere = await many("http://127.0.0.1:9", "paced", streams=3, concurrent=2, tokens=5, first=0)
    assert figures(nowhere, 5, 1.0)["failed"] == 3


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 503 -\r\ncontent-length: 10\r\n\r\n{"error":1}',
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_none_ends_as_failed(answer: bytes) -> None:
    """An error, an empty answer, a stream that breaks off, a connection that is dropped."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    heard = await many(url, "paced", streams=3, concurrent=1, tokens=5, first=0)
    server.close()
    await server.wait_closed()
    assert figures(heard, 5, 1.0)["failed"] == 3


def cell(ttft_ms: float, cpu_s: float, failed: int = 0) -> Cell:
    return Cell(failed=failed, ttft_p50_s=ttft_ms / 1e3, ttft_p99_s=2 * ttft_ms / 1e3, itl_p50_s=0.01, itl_p99_s=0.01,
                tokens_per_s=1000.0 * ttft_ms, cpu_s=cpu_s, replica_cpu_s=cpu_s / 2, worker_cpu_s=0.0)  # fmt: skip


def test_direct_is_subtracted_within_a_round_and_the_middle_round_counts() -> None:
    rounds = {
        "direct": [cell(10, 0), cell(20, 0), cell(11, 0)],
        "ours": [cell(12, 2.0), cell(25, 1.0, failed=1), cell(12, 1.5)],
    }
    found = row("ours", 64, rounds)
    assert found["added_ttft_ms_p50"] == pytest.approx(2.0)
    assert found["added_ttft_ms_p50_spread"] == pytest.approx([1.0, 5.0])
    assert found["added_ttft_ms_p99"] == pytest.approx(4.0)
    assert found["added_itl_ms_p99"] == 0.0
    assert (found["cpu_s_per_1000"], found["cpu_s_per_1000_replica"], found["failed"]) == (1.5, 0.75, 1)
    assert unpaced(rounds)["ours"]["tokens_per_s_unpaced"] == 12_000
    lines = table([found])
    assert lines[1].split()[:5] == ["ours", "64", "2.00", "(1.00", "to"]
