"""What a chat message may hold besides text."""

from dataclasses import dataclass

MAX_IMAGE_BYTES = 12 * 2**20
"""Of all images of one request: a command travels in one message, and 16 MiB are a message's bound."""

MAX_IMAGES = 64
"""In one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image as its file came: nobody but the engine decodes it."""

    data: bytes
    media_type: str  # "image/png"
    detail: str = ""  # "low", "high" or nothing


ContentPart = str | Image
"""One part of a message's content, in its order."""
