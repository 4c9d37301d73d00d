"""Fetches the images of a request: from listed hosts, within a deadline, a number of bytes and of requests at once."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import structlog

from protos.contract.content import MAX_IMAGE_BYTES, Image
from router.errors import InvalidRequest, UnsupportedParameter
from router.http.dialects.shared.images import ImageAt, ImageBudget, image_from_bytes
from router.http.fetching.rules import ImageHosts, NotToBeFetched, Place, is_public

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger()

MAX_REDIRECTS = 3
AT_ONCE = 16
"""Of all requests together; the others wait, within their deadline."""

PIECE_BYTES = 64 * 1024
REDIRECTS = (301, 302, 303, 307, 308)
HEADERS = {"accept": "image/png, image/jpeg, image/gif, image/webp", "accept-encoding": "identity"}


class FetchFailed(InvalidRequest):
    """The image is not to be had."""

    code = "invalid_image_url"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFetcher:
    """``hosts``: where from; none: nothing is fetched. ``deadline_s``: for all images of one request."""

    hosts: ImageHosts
    deadline_s: float
    is_allowed: Callable[[str], bool] = is_public  # of an address
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def fetch(
        self, wanted: Sequence[ImageAt], budget: ImageBudget, take: Callable[[int], None]
    ) -> dict[ImageAt, Image]:
        """All of them, each once. ``budget``: what the request may still bring; ``take`` is told of bytes as they come,
        and may refuse them.

        Raises InvalidRequest, and what ``take`` raises.
        """
        self._refuse(wanted)
        import aiohttp  # late: most routers fetch nothing, and start without it

        from router.http.fetching.public_resolver import PublicResolver

        found: dict[ImageAt, Image] = {}
        resolver = PublicResolver(self.is_allowed)
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        waiting = ""
        try:
            async with (
                asyncio.timeout(self.deadline_s),
                aiohttp.ClientSession(connector=connector, auto_decompress=False, headers=HEADERS) as session,
            ):
                for one in dict.fromkeys(wanted):
                    waiting = one.param
                    async with self._turns:
                        data = await self._one(session, one, budget.left_bytes, take)
                    found[one] = image_from_bytes(data, budget, detail=one.detail, param=one.param)
        except TimeoutError:
            message = f"'{waiting}' could not be fetched within {self.deadline_s:g} s"
            raise FetchFailed(message, param=waiting) from None
        return found

    def _refuse(self, wanted: Sequence[ImageAt]) -> None:
        """Before anything is asked for."""
        for one in wanted:
            if not self.hosts:
                raise UnsupportedParameter(
                    f"'{one.param}': this server fetches no images; send it as a data URL (operators allow hosts in "
                    "http.image_hosts)",
                    param=one.param,
                )
            self._place(one, one.url)

    def _place(self, one: ImageAt, url: str, *, from_https: bool = False) -> Place:
        try:
            return self.hosts.place(url, from_https=from_https)
        except NotToBeFetched as reason:
            raise FetchFailed(f"'{one.param}' is not fetched: {reason}", param=one.param) from None

    async def _one(
        self, session: "aiohttp.ClientSession", one: ImageAt, most: int, take: Callable[[int], None]
    ) -> bytes:
        from aiohttp import ClientError

        place = self._place(one, one.url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                async with session.get(place.url, allow_redirects=False) as reply:
                    if reply.status not in REDIRECTS:
                        return await self._read(reply, one, most, take)
                    onwards = urljoin(place.url, reply.headers.get("location", ""))
                place = self._place(one, onwards, from_https=place.scheme == "https")
        except NotToBeFetched as reason:
            raise FetchFailed(f"'{one.param}' is not fetched: {reason}", param=one.param) from None
        except (ClientError, OSError, ValueError) as error:
            log.info("image.not_fetched", host=place.host, reason=f"{type(error).__name__}: {error}"[:200])
            raise FetchFailed(f"'{one.param}' could not be fetched from {place.host}", param=one.param) from None
        raise FetchFailed(f"'{one.param}' leads elsewhere more than {MAX_REDIRECTS} times", param=one.param)

    @staticmethod
    async def _read(reply: "aiohttp.ClientResponse", one: ImageAt, most: int, take: Callable[[int], None]) -> bytes:
        if reply.status != 200:
            raise FetchFailed(f"'{one.param}': its host answered {reply.status}", param=one.param)
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise FetchFailed(f"'{one.param}': its host packs images, which is not asked for", param=one.param)
        data = bytearray()
        async for piece in reply.content.iter_chunked(PIECE_BYTES):
            if len(data) + len(piece) > most:
                message = f"the images of one request have more than {MAX_IMAGE_BYTES} bytes"
                raise InvalidRequest(message, param=one.param)
            take(len(piece))
            data += piece
        return bytes(data)
