"""Images are fetched within their bounds, from where they may be; what goes wrong is one line that names the image."""

import asyncio
import gzip
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from protos.contract.content import Image
from router.errors import BodiesFull, InvalidRequest
from router.http.dialects.shared.images import ImageAt, ImageBudget
from router.http.fetching.fetcher import ImageFetcher
from router.http.fetching.rules import ImageHosts
from tests.support.http_surface import surface

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 2, 3) + bytes(5)
HUGE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 100_000, 100_000) + bytes(5)


OVER = web.AppKey("over", asyncio.Event)


async def slow(request: web.Request) -> web.StreamResponse:
    await request.app[OVER].wait()
    return web.Response()


async def onwards(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(request.query["to"])


async def packed(_: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(PNG), headers={"content-encoding": "gzip"})


def answers(body: bytes, status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type="text/html")

    return handler


@pytest.fixture
async def host() -> AsyncIterator[str]:
    """``localhost:PORT`` of a server of images."""
    app = web.Application()
    app[OVER] = asyncio.Event()
    pages: dict[str, Any] = {
        "/a.png": answers(PNG), "/slow": slow, "/to": onwards, "/packed": packed, "/huge.png": answers(HUGE),
        "/page": answers(b"<html>"), "/gone": answers(b"", 404), "/large": answers(PNG + bytes(200_000)),
    }  # fmt: skip
    for path, handler in pages.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"localhost:{runner.addresses[0][1]}"
    app[OVER].set()
    await runner.cleanup()


def fetcher(*hosts: str, deadline_s: float = 5.0, anywhere: bool = True) -> ImageFetcher:
    """``anywhere``: this machine's own addresses are as good as public ones."""
    if anywhere:
        return ImageFetcher(hosts=ImageHosts(hosts), deadline_s=deadline_s, is_allowed=lambda _: True)
    return ImageFetcher(hosts=ImageHosts(hosts), deadline_s=deadline_s)


async def fetch(by: ImageFetcher, *urls: str, budget: ImageBudget | None = None) -> list[Image]:
    wanted = [ImageAt(url=url, param=f"image[{number}]") for number, url in enumerate(urls)]
    found = await by.fetch(wanted, budget or ImageBudget(), lambda _: None)
    return [found[one] for one in wanted]


async def test_an_image_is_fetched_as_its_file_is(host: str) -> None:
    """Its kind is what its bytes say; elsewhere it leads within the same rules."""
    urls = (f"http://{host}/a.png", f"http://{host}/to?to=/a.png", f"http://{host}/to?to=http://{host}/a.png")
    assert await fetch(fetcher(host), *urls) == [Image(data=PNG, media_type="image/png")] * 3


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/gone", "answered 404"),
        ("/page", "no PNG, JPEG, GIF or WebP"),
        ("/huge.png", "10000000000 pixels"),
        ("/packed", "packs images"),
        ("/to?to=http://example.org/a.png", "example.org is not among the hosts"),
        ("/to?to=http://169.254.169.254/", "169.254.169.254 is not among"),
        ("/to?to=file:///etc/passwd", "URL is not valid"),
        ("/to?to=/to?to=/to?to=/to?to=/to?to=/a.png", "leads elsewhere more than 3 times"),
        ("/slow", "could not be fetched within 0.3 s"),
    ],
)
async def test_what_is_no_image_says_why(host: str, path: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        await fetch(fetcher(host, deadline_s=0.3), f"http://{host}{path}")
    assert caught.value.param == "image[0]"


async def test_a_name_that_leads_to_this_machine_is_not_dialled(host: str) -> None:
    """Listed or not: what counts is the address that would be dialled."""
    with pytest.raises(InvalidRequest, match="its host has no public address"):
        await fetch(fetcher(host, anywhere=False), f"http://{host}/a.png")


async def test_nobody_at_home_is_one_line() -> None:
    with pytest.raises(InvalidRequest, match="could not be fetched from localhost"):
        await fetch(fetcher("localhost:1"), "http://localhost:1/a.png")


async def test_bytes_are_bounded_over_all_images(host: str) -> None:
    """What comes is counted as it comes, and whoever counts may refuse it."""
    two = (f"http://{host}/a.png", f"http://{host}/large")
    with pytest.raises(InvalidRequest, match="bytes") as caught:
        await fetch(fetcher(host), *two, budget=ImageBudget(left_bytes=150_000))
    assert caught.value.param == "image[1]"

    def full(_: int) -> None:
        raise BodiesFull(1)

    with pytest.raises(BodiesFull):
        await fetcher(host).fetch([ImageAt(url=two[0], param="p")], ImageBudget(), full)


def message(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "high"}}]}]


async def test_a_fetched_image_reaches_the_worker(host: str) -> None:
    """In every dialect that names one by URL."""
    on, url = surface(images=fetcher(host)), f"http://{host}/a.png"
    part = {"type": "input_image", "image_url": url}
    source = {"type": "image", "source": {"type": "url", "url": url}}
    async with on.client() as client:
        for path, body in {
            "/v1/chat/completions": {"messages": message(url)},
            "/v1/responses": {"input": [{"role": "user", "content": [part]}]},
            "/v1/messages": {"messages": [{"role": "user", "content": [source]}], "max_tokens": 5},
        }.items():
            assert (await client.post(path, json={"model": "m", **body})).status_code == 200
    images = [asked.messages[0].images[0] for asked in on.pipeline.requests]
    assert [one.data for one in images] == [PNG] * 3
    assert images[0] == Image(data=PNG, media_type="image/png", detail="high")


async def test_too_many_images_are_refused_before_one_is_fetched() -> None:
    reply = await surface(images=fetcher("*")).chat(messages=message("http://nobody.example/a.png") * 65)
    assert (reply.status_code, "more than 64 images" in reply.text) == (400, True)
