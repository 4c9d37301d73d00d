"""Images in requests: data URLs, bounded in bytes, number and pixels. Nobody decodes them here."""

import base64
import binascii
import re
from dataclasses import dataclass

from protos.contract.content import MAX_IMAGE_BYTES, MAX_IMAGES, Image
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.shared.image_size import pixels_of

MAX_PIXELS = 64_000_000
"""Of one image: what a phone's camera takes. A small file can hold far more, and cost its decoder gigabytes."""

_DATA_URL = re.compile(r"data:(image/[a-z0-9.+-]{1,40})(;[^,]{0,100})?;base64,", re.IGNORECASE)


@dataclass(slots=True)
class ImageBudget:
    """What one request may still bring."""

    left: int = MAX_IMAGES
    left_bytes: int = MAX_IMAGE_BYTES


def image_of(url: str, budget: ImageBudget, *, detail: str = "", param: str) -> Image:
    """Raises InvalidRequest, and UnsupportedParameter for an image that would have to be fetched."""
    found = _DATA_URL.match(url)
    if found is None:
        if url.startswith(("http://", "https://")):
            raise UnsupportedParameter(
                f"'{param}': images are not fetched from elsewhere; send it as a data URL", param=param
            )
        raise InvalidRequest(f"'{param}' is no image: expected data:image/TYPE;base64,...", param=param)
    return image_from_base64(url[found.end() :], found[1].lower(), budget, detail=detail, param=param)


def image_from_base64(text: str, media_type: str, budget: ImageBudget, *, detail: str = "", param: str) -> Image:
    """Raises InvalidRequest."""
    if budget.left == 0:
        raise InvalidRequest(f"more than {MAX_IMAGES} images in one request", param=param)
    if len(text) // 4 * 3 > budget.left_bytes:
        raise InvalidRequest(f"the images of one request have more than {MAX_IMAGE_BYTES} bytes", param=param)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"'{param}' is not base64", param=param) from None
    pixels = pixels_of(data)
    if pixels is None:
        raise InvalidRequest(f"'{param}' is no PNG, JPEG, GIF or WebP image", param=param)
    if pixels > MAX_PIXELS:
        raise InvalidRequest(f"'{param}' has {pixels} pixels, more than {MAX_PIXELS}", param=param)
    budget.left -= 1
    budget.left_bytes -= len(data)
    return Image(data=data, media_type=media_type, detail=detail)
