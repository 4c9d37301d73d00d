"""Images of a chat, for models that see: decoded beside the event loop and handed to vLLM with the prompt."""

import io
from typing import Any

from protos.contract.request import Job
from protos.contract.stream import RefusalCode
from workers.engines.base import Refused

MAX_PIXELS = 64_000_000
"""Of one image, by what it says before anything is decoded: as the router bounds them."""


def sees(llm: Any) -> bool:
    """Whether a loaded model takes images."""
    config = llm.model_config
    return bool(config.is_multimodal_model) and getattr(config.hf_config, "vision_config", None) is not None


def pictures_of(job: Job) -> list[Any]:
    """As PIL images, in the order in which the messages have them. Blocks; raises Refused."""
    images = [image for message in job.messages for image in message.images]
    return [_decoded(image.data, number) for number, image in enumerate(images)]


def _decoded(data: bytes, number: int) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise Refused(RefusalCode.INVALID, f"image {number + 1} is too large", parameter="messages")
            return opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = f"image {number + 1} cannot be decoded: {str(error).splitlines()[0][:100] if str(error) else 'broken'}"
        raise Refused(RefusalCode.INVALID, reason, parameter="messages") from None
