"""Images in requests: data URLs, and places to fetch one from; bounded in bytes, number and pixels. Nobody decodes them
here.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from protos.contract.content import MAX_IMAGE_BYTES, MAX_IMAGES, Image
from protos.contract.request import ChatMessage
from router.errors import InvalidRequest
from router.http.dialects.shared.image_size import kind_of, pixels_of

MAX_PIXELS = 64_000_000
"""Of one image: what a phone's camera takes. A small file can hold far more, and cost its decoder gigabytes."""

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,40})(;[^,]{0,100})?;base64,", re.IGNORECASE)


@dataclass(slots=True)
class ImageBudget:
    """What one request may still bring."""

    left: int = MAX_IMAGES
    left_bytes: int = MAX_IMAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAt(Image):
    """One that is yet to be fetched: it stands in its message until then, and goes no further."""

    url: str
    param: str  # where the request names it
    data: bytes = b""
    media_type: str = ""


def image_of(url: str, budget: ImageBudget, *, detail: str = "", param: str) -> Image:
    """An ``ImageAt`` for one that has to be fetched. Raises InvalidRequest."""
    found = _DATA_URL.match(url)
    if found is None:
        if url[:8].lower().startswith(("http://", "https://")):
            _one_more(budget, param)
            return ImageAt(url=url, detail=detail, param=param)
        raise InvalidRequest(f"'{param}' is no image: expected data:image/TYPE;base64,...", param=param)
    return image_from_base64(url[found.end() :], found[1].lower(), budget, detail=detail, param=param)


def image_from_base64(text: str, media_type: str, budget: ImageBudget, *, detail: str = "", param: str) -> Image:
    """Raises InvalidRequest."""
    if len(text) // 4 * 3 > budget.left_bytes:
        raise InvalidRequest(f"the images of one request have more than {MAX_IMAGE_BYTES} bytes", param=param)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"'{param}' is not base64", param=param) from None
    _one_more(budget, param)
    return image_from_bytes(data, budget, detail=detail, param=param, media_type=media_type)


def image_from_bytes(data: bytes, budget: ImageBudget, *, detail: str, param: str, media_type: str = "") -> Image:
    """``media_type``: empty: what the bytes say. Raises InvalidRequest."""
    pixels = pixels_of(data)
    if pixels is None:
        raise InvalidRequest(f"'{param}' is no PNG, JPEG, GIF or WebP image", param=param)
    if pixels > MAX_PIXELS:
        raise InvalidRequest(f"'{param}' has {pixels} pixels, more than {MAX_PIXELS}", param=param)
    budget.left_bytes -= len(data)
    return Image(data=data, media_type=media_type or kind_of(data), detail=detail)


def _one_more(budget: ImageBudget, param: str) -> None:
    if budget.left == 0:
        raise InvalidRequest(f"more than {MAX_IMAGES} images in one request", param=param)
    budget.left -= 1


def images_at(messages: tuple[ChatMessage, ...]) -> list[ImageAt]:
    """Those that are yet to be fetched."""
    return [part for message in messages for part in message.parts if isinstance(part, ImageAt)]


def with_images(messages: tuple[ChatMessage, ...], found: Mapping[ImageAt, Image]) -> tuple[ChatMessage, ...]:
    """Each in its place."""
    return tuple(
        replace(one, parts=tuple(found[part] if isinstance(part, ImageAt) else part for part in one.parts))
        for one in messages
    )


def budget_left(messages: tuple[ChatMessage, ...]) -> ImageBudget:
    """What images of these may still take."""
    images = [part for message in messages for part in message.parts if isinstance(part, Image)]
    return ImageBudget(left_bytes=MAX_IMAGE_BYTES - sum(len(one.data) for one in images))
