"""What other servers answer to, this one answers to: paths, methods, bodies, names and pages."""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from router.config import HttpConfig, RouterConfig
from router.configured import check_config
from router.errors import ConfigError
from tests.support.http_surface import Surface, events, surface
from tests.support.until import until_async

CHAT = "/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def ask(on: Surface, method: str, path: str, **more: Any) -> httpx.Response:
    async with on.client() as client:
        return await client.request(method, path, **more)


@pytest.mark.parametrize(
    "path",
    ["/health", "/healthz", "/ping", "/version", "/v1/models", "/v1/models/", "/models", "/v1/v1/models", "/v1/health"],
)
async def test_what_other_servers_answer_to_is_answered(path: str) -> None:
    reply = await ask(surface(), "GET", path)
    assert reply.status_code == 200
    assert reply.json()


async def test_health_tells_whether_requests_can_be_served() -> None:
    reply = await ask(surface(ready=(False, "no worker is ready yet")), "GET", "/health")
    assert (reply.status_code, reply.json()["reason"]) == (503, "no worker is ready yet")


@pytest.mark.parametrize(
    "path", [CHAT, CHAT + "/", "/chat/completions", "/chat/completions//", "/v1/v1/chat/completions"]
)
async def test_a_base_url_without_v1_and_slashes_at_the_end_lead_there_too(path: str) -> None:
    assert (await ask(surface(), "POST", path, json=BODY)).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/openapi.json"])
async def test_head_says_what_get_would_without_the_body(path: str) -> None:
    on = surface()
    head, get = await ask(on, "HEAD", path), await ask(on, "GET", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("path", [CHAT, "/health", "/v1/models/m"])
async def test_options_says_what_is_allowed(path: str) -> None:
    reply = await ask(surface(), "OPTIONS", path)
    assert reply.status_code == 200
    assert "OPTIONS" in reply.headers["allow"]


@pytest.mark.parametrize(
    ("origin", "listed", "lets"),
    [
        ("http://localhost:5173", [], True),
        ("http://127.0.0.1:3000", [], True),
        ("http://app.localhost", [], True),
        ("https://chat.example.org", ["https://chat.example.org"], True),
        ("https://chat.example.org", [], False),
        ("https://localhost.example.org", [], False),
        ("null", [], False),
        ("file://", [], False),
    ],
)
async def test_pages_of_this_machine_and_listed_ones_may_use_it_and_no_others(
    origin: str, listed: list[str], lets: bool
) -> None:
    """Without a key, what a browser sends for another page is refused even where it needs no asking before."""
    on = surface(config=HttpConfig(cors_origins=listed))
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    before = await ask(on, "OPTIONS", CHAT, headers={**asked, "access-control-request-private-network": "true"})
    assert before.status_code == 200
    assert ("access-control-allow-headers" in before.headers) is lets
    reply = await ask(on, "POST", CHAT, json=BODY, headers={"origin": origin})
    assert reply.status_code == (200 if lets else 403)
    assert reply.headers.get("access-control-allow-origin") == (origin if lets else None)
    assert reply.headers["vary"] == "origin"


async def test_a_listed_page_may_not_administer_the_fleet_without_a_key() -> None:
    on = surface(config=HttpConfig(cors_origins=["https://chat.example.org"]))
    headers = {"origin": "https://chat.example.org"}
    assert (await ask(on, "GET", "/v1/models", headers=headers)).status_code == 200
    assert (await ask(on, "POST", "/admin/drain", json={"node": "mac"}, headers=headers)).status_code == 403
    assert not on.fleet.done


@pytest.mark.parametrize("origin", ["*", "https://*.example.org", "example.org", "https://example.org/app"])
def test_what_is_no_single_origin_is_refused_when_the_router_starts(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.cors_origins"):
        check_config(RouterConfig(http=HttpConfig(cors_origins=[origin])))


@pytest.mark.parametrize(
    ("host", "listed", "status"),
    [
        ("localhost:8000", [], 200),
        ("host.docker.internal:8000", [], 200),
        ("192.168.1.7:8000", [], 200),
        ("[fe80::1]:8000", [], 200),
        ("llm.lan", ["llm.lan"], 200),
        ("a.llm.lan:8000", [".llm.lan"], 200),
        ("llm.lan", [], 403),
        ("evil.example.com", [".llm.lan"], 403),
        ("127.0.0.1.example.com", [], 403),
    ],
)
async def test_it_answers_without_a_key_under_its_machines_own_names_only(
    host: str, listed: list[str], status: int
) -> None:
    """Any page can point its own name at 127.0.0.1; nobody can point an address elsewhere."""
    on = surface(config=HttpConfig(allowed_hosts=listed))
    assert (await ask(on, "POST", CHAT, json=BODY, headers={"host": host})).status_code == status


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_packed_body_is_unpacked(coding: str, pack: Any) -> None:
    packed = pack(json.dumps(BODY).encode())
    headers = {"content-type": "application/json", "content-encoding": coding}
    on = surface()
    assert (await ask(on, "POST", CHAT, content=packed, headers=headers)).status_code == 200
    cut = await ask(on, "POST", CHAT, content=packed[:-6], headers=headers)
    assert (cut.status_code, cut.json()["error"]["type"]) == (400, "invalid_request_error")
    plain = await ask(on, "POST", CHAT, json=BODY, headers=headers)
    assert plain.status_code == 400


async def test_a_packed_body_is_unpacked_up_to_the_limit_of_plain_ones() -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    reply = await ask(surface(config=HttpConfig(body_limit_bytes=20_000)), "POST", CHAT, content=bomb, headers=headers)
    assert len(bomb) < 20_000
    assert reply.status_code == 413


async def test_an_unknown_coding_is_a_415() -> None:
    headers = {"content-type": "application/json", "content-encoding": "br"}
    assert (await ask(surface(), "POST", CHAT, content=b"x", headers=headers)).status_code == 415


async def test_a_stream_whose_first_token_takes_long_says_that_it_lives() -> None:
    """Comments, which clients pass over; none once there are tokens."""
    on = surface(config=HttpConfig(sign_of_life_s=0.01))
    on.pipeline.gate.clear()
    written: list[bytes] = []

    async def send(message: Any) -> None:
        written.append(message.get("body", b""))
        if sum(one.startswith(b": ") for one in written) == 3:
            on.pipeline.gate.set()

    body = json.dumps({**BODY, "stream": True}).encode()
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if pending:
            return pending.pop()
        await until_async(lambda: bool(written) and b"[DONE]" in written[-1], "the stream ends")
        return {"type": "http.disconnect"}

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    await on.app({"type": "http", "method": "POST", "path": CHAT, "headers": headers}, receive, send)
    comments = [number for number, one in enumerate(written) if one.startswith(b": ")]
    first = next(number for number, one in enumerate(written) if one.startswith(b"data"))
    assert comments == list(range(1, first))
    assert len(comments) >= 3
    text = b"".join(one for one in written if not one.startswith(b": ")).decode()
    assert (
        "".join(one["choices"][0]["delta"].get("content", "") for one in events(text)[:-1]) == "Paris is the capital."
    )
