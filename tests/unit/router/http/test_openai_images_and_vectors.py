"""OpenAI's dialect: images come along or are refused in one line; embeddings of texts and token ids."""

import base64
import struct
from typing import Any

import httpx
import pytest

from protos.contract.stream import FinishReason, Usage
from router.domain.answer import Chunk
from router.domain.request import RequestKind
from tests.support.http_surface import Surface, surface


async def post(on: Surface, path: str, **body: Any) -> httpx.Response:
    async with on.client() as client:
        return await client.post(path, json={"model": "m", **body})


def png(width: int = 2, height: int = 3) -> str:
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + bytes(5)
    ).decode()


async def test_an_image_reaches_the_worker_as_its_file_came() -> None:
    on = surface()
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png()}", "detail": "low"}},
    ]
    assert (await on.chat(messages=[{"role": "user", "content": content}])).status_code == 200
    message = on.pipeline.requests[0].messages[0]
    assert (message.text, message.images[0].media_type, message.images[0].detail) == ("What is it?", "image/png", "low")
    assert message.images[0].data == base64.b64decode(png())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/cat.png", "fetches no images"),
        ("ftp://x", "no image"),
        ("data:text/plain;base64,AAAA", "no image"),
        ("data:image/png;base64,AAAA", "no PNG"),
        ("data:image/png;base64,@@@", "not base64"),
        (f"data:image/png;base64,{png(100_000, 100_000)}", "pixels"),
        ("data:image/png;base64," + "A" * 17_000_000, "bytes"),
    ],
)
async def test_images_are_bounded_and_not_fetched(url: str, says: str) -> None:
    from router.config import HttpConfig

    on = surface(config=HttpConfig(body_limit_bytes=64 * 2**20))
    content = [{"type": "image_url", "image_url": {"url": url}}]
    reply = await on.chat(messages=[{"role": "user", "content": content}])
    assert reply.status_code == 400
    assert says in reply.json()["error"]["message"]
    assert len(reply.content) < 1000


VECTORS = (
    Chunk(
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=5),
        vectors=((1.0, 0.0), (0.6, -0.8)),
    ),
)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
async def test_embeddings_take_texts_and_token_ids(given: Any, inputs: Any) -> None:
    on = surface(script=VECTORS)
    body = (await post(on, "/v1/embeddings", input=given, dimensions=2)).json()
    asked = on.pipeline.requests[0]
    assert asked.kind is RequestKind.EMBEDDING
    assert asked.embedding is not None
    assert (asked.embedding.inputs, asked.embedding.dimensions) == (inputs, 2)
    assert body["data"][1] == {"object": "embedding", "index": 1, "embedding": [0.6, -0.8]}
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


async def test_embeddings_come_packed_when_asked_for() -> None:
    body = (await post(surface(script=VECTORS), "/v1/embeddings", input="a", encoding_format="base64")).json()
    assert struct.unpack("<2f", base64.b64decode(body["data"][0]["embedding"])) == (1.0, 0.0)


@pytest.mark.parametrize("given", ["", [""], [], [[]], ["a", 1], [-1], ["a"] * 2049])
async def test_what_cannot_be_embedded_is_a_400(given: Any) -> None:
    reply = await post(surface(script=VECTORS), "/v1/embeddings", input=given)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"].startswith("input")
