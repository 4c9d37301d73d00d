"""``POST /v1/embeddings``: one text or many, as numbers or base64."""

import base64
import sys
from array import array
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protos.contract.request import EmbeddingInputs
from protos.contract.stream import Usage
from router.errors import AllsortsError, InvalidRequest
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Call, Told
from router.http.dialects.openai.fields import Ignored, Model, Name, Seconds, Text, TokenId
from router.http.dialects.shared.disclosure import Disclosure, disclosure
from router.http.dialects.shared.silent import SilentWriter
from router.http.dialects.shared.wish import Wish
from router.http.server.decoding import BodyDecoder
from router.http.server.errors import error_body, error_event
from router.http.server.exchange import JSON

MAX_INPUTS = 2048


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/embeddings``."""

    model: Model
    input: Text | Annotated[list[TokenId | Text | list[TokenId]], Meta(min_length=1, max_length=2**21)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65_536)] | None = None
    user: Name | None = None
    input_type: Ignored = None
    truncate_prompt_tokens: Ignored = None
    # beyond OpenAI
    quality: Annotated[str, Meta(max_length=32)] | None = None
    priority: Annotated[int, Meta(ge=-100, le=100)] | None = None
    deadline_s: Seconds | None = None


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    """One vector: numbers, or little-endian 32-bit floats in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """``POST /v1/embeddings``."""

    object: Literal["list"] = "list"
    data: list[EmbeddingBody]
    model: str
    usage: EmbeddingUsage
    allsorts: Disclosure


class OpenAIEmbeddings:
    """See ``Dialect``."""

    name = "openai.embeddings"
    id_prefix = "embd"
    stream_type = JSON
    sign_of_life = b""
    any_type = False

    def __init__(self, *, strict: bool) -> None:
        self._decoder = BodyDecoder(EmbeddingRequest, strict=strict)

    def understand(self, body: bytes) -> Call:
        """Raises InvalidRequest naming the parameter at fault."""
        asked, ignored = self._decoder.decode(body)
        wish = Wish(
            model=asked.model,
            embedding=EmbeddingInputs(inputs=inputs_of(asked.input), dimensions=asked.dimensions or 0),
            quality=asked.quality,
            priority=asked.priority,
            deadline_s=asked.deadline_s,
        )
        packed = asked.encoding_format == "base64"
        return Call(wish=wish, stream=False, writing=partial(EmbeddingWriter, packed=packed), ignored=ignored)

    def error(self, error: AllsortsError) -> bytes:
        """``{"error": …}``."""
        return error_body(error)

    def error_event(self, error: AllsortsError) -> bytes:
        """Never sent: nothing is streamed."""
        return error_event(error)


def inputs_of(given: str | list[int | str | list[int]], *, param: str = "input") -> tuple[str | tuple[int, ...], ...]:
    """Texts or token ids, none of them empty. Raises InvalidRequest."""
    if isinstance(given, str):
        given = [given]
    ids = [one for one in given if isinstance(one, int)]
    if ids and len(ids) == len(given):
        return (tuple(ids),)
    if ids:
        raise InvalidRequest(f"Invalid value for '{param}': token ids and texts do not mix", param=param)
    inputs = tuple(tuple(one) if isinstance(one, list) else str(one) for one in given)
    if not all(inputs):
        raise InvalidRequest(f"Invalid value for '{param}': it must not be empty", param=param)
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"'{param}' has {len(inputs)} texts, more than {MAX_INPUTS}", param=param)
    return inputs


class EmbeddingWriter(SilentWriter):
    """See ``Writer``."""

    def __init__(self, told: Told, *, packed: bool) -> None:
        super().__init__(told)
        self._packed = packed

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """A list of embeddings, in the order of the inputs."""
        answer = answers[0]
        return msgspec.json.encode(
            EmbeddingList(
                data=[
                    EmbeddingBody(index=index, embedding=packed_floats(vector) if self._packed else list(vector))
                    for index, vector in enumerate(answer.vectors)
                ],
                model=self.told.model,
                usage=EmbeddingUsage(prompt_tokens=usage.prompt_tokens, total_tokens=usage.prompt_tokens),
                allsorts=disclosure(answer.head, answer.continuations),
            )
        )


def packed_floats(vector: Sequence[float]) -> str:
    """Little-endian 32-bit floats in base64.

    >>> packed_floats([1.0])
    'AACAPw=='
    """
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
