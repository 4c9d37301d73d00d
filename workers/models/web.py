"""Models' files from web servers: a URL of a file, or a repository or file of Hugging Face's Hub (or its like)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import aiohttp

from protos.contract.files.content import BadContent, FilePart, check_name
from protos.contract.models.model_name import parse_name
from workers.errors import WorkerError
from workers.models.sources import Piece, SourceBroke, SourceRefused

HUB = "https://huggingface.co"
HUB_KEY = "HF_TOKEN"
HUB_ENDPOINT = "HF_ENDPOINT"

READ_BYTES = 2**18
CONNECT_S = 20.0
SILENT_S = 30.0
LISTING_S = 30.0
MAX_LISTED = 1024

_FINAL = frozenset({400, 401, 403, 404, 405, 410, 451})
_WANTED = (".safetensors", ".json", ".jinja", ".model", ".tiktoken", ".txt")


class BadSource(WorkerError):
    """What names a source names none; one line."""


class WebSource:
    """``text``: ``https://HOST/PATH/FILE``, ``hf:OWNER/REPOSITORY`` or ``hf:OWNER/REPOSITORY/FILE``.

    ``environment`` may hold the Hub's address and key; the key is sent there alone. Raises BadSource.
    """

    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self._headers: dict[str, str] = {}
        self._repository = ""
        if text.startswith("hf:"):
            endpoint = environment.get(HUB_ENDPOINT, HUB).rstrip("/")
            owner, name, file = _repository(text)
            self._repository = f"{owner}/{name}"
            self._hub = endpoint
            self._base = f"{endpoint}/{owner}/{name}/resolve/main/"
            self._file = file
            self.name = text
            if key := environment.get(HUB_KEY, ""):
                self._headers["authorization"] = f"Bearer {key}"
        else:
            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise BadSource(f"{text[:100]!r} is no source: write an http(s) URL or hf:OWNER/REPOSITORY/FILE")
            self._base = text
            self._file = parts.path.rpartition("/")[2]
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            self.name = urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))

    async def listing(self) -> tuple[FilePart, ...]:
        """A repository's own list; of a URL the file it names, with the other parts of a split one."""
        if self._repository:
            return await self._from_hub()
        return tuple([await self._sized(name) for name in _shards(self._file)])

    async def read(self, part: FilePart, offset: int, avoid: frozenset[str]) -> AsyncIterator[Piece]:
        """By range. A server that gives no ranges gives all again, and what is here already is passed over."""
        del avoid
        headers = {**self._headers, **({"range": f"bytes={offset}-"} if offset else {})}
        async with self._get(self._url(part.name), headers) as reply:
            skip = offset if reply.status != 206 else 0
            try:
                async for data in reply.content.iter_chunked(READ_BYTES):
                    fresh = data[skip:]
                    skip = max(0, skip - len(data))
                    if fresh:
                        yield Piece(data=fresh, holder=self.name)
            except (aiohttp.ClientError, TimeoutError) as error:
                raise SourceBroke(f"{self.name}: {error or type(error).__name__}") from None

    # -- asking ------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _get(
        self, url: str, headers: Mapping[str, str], *, method: str = "GET"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=True) as client:
            try:
                reply = await client.request(method, url, headers={**headers, "accept-encoding": "identity"})
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise SourceBroke(f"{self.name}: {error or type(error).__name__}") from None
            async with reply:
                if reply.status in _FINAL:
                    raise SourceRefused(f"{self.name}: {reply.status} {reply.reason}{_advice(reply.status, self.name)}")
                if reply.status not in (200, 206):
                    raise SourceBroke(f"{self.name}: {reply.status} {reply.reason}")
                yield reply

    async def _sized(self, name: str) -> FilePart:
        async with self._get(self._url(name), self._headers, method="HEAD") as reply:
            return FilePart(name=_checked(name, self.name), size_bytes=reply.content_length or 0, sha256="")

    async def _from_hub(self) -> tuple[FilePart, ...]:
        async with self._get(f"{self._hub}/api/models/{self._repository}?blobs=true", self._headers) as reply:
            try:
                async with asyncio.timeout(LISTING_S):
                    told = await reply.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                raise SourceBroke(f"{self.name}: its list of files: {error or type(error).__name__}") from None
        try:
            known = {one["rfilename"]: one for one in told["siblings"][:MAX_LISTED]}
            names = _shards(self._file) if self._file else [one for one in known if _of_model(one)]
            missing = [one for one in names if one not in known]
            if missing or not names:
                raise SourceRefused(f"{self.name}: there is no {missing[0] if missing else 'model'} in the repository")
            return tuple(_listed(_checked(name, self.name), known[name]) for name in names)
        except (KeyError, TypeError) as error:
            raise SourceRefused(f"{self.name}: its list of files is not understood ({error!r})") from None

    def _url(self, name: str) -> str:
        if not self._repository and name == self._file:
            return self._base  # with its query, which may be what lets one in
        return urljoin(self._base, quote(name))


def _repository(text: str) -> tuple[str, str, str]:
    match text.removeprefix("hf:").split("/"):
        case [owner, name] if owner and name:
            return owner, name, ""
        case [owner, name, file] if owner and name and file:
            return owner, name, file
    raise BadSource(f"{text[:100]!r} is no source: write hf:OWNER/REPOSITORY or hf:OWNER/REPOSITORY/FILE")


def _shards(file: str) -> list[str]:
    """The file, with its siblings where it is a part of several."""
    named = parse_name(file)
    if named.shards <= 1 or named.shards > MAX_LISTED:
        return [file]
    tail = f"-of-{named.shards:05d}{file[file.rindex('.') :]}"
    start = file[: -len(f"00001{tail}")]
    return [f"{start}{number:05d}{tail}" for number in range(1, named.shards + 1)]


def _of_model(name: str) -> bool:
    return "/" not in name and name.endswith(_WANTED)


def _listed(name: str, told: Mapping[str, object]) -> FilePart:
    large = told.get("lfs")
    sha256 = str(large.get("sha256", "")) if isinstance(large, Mapping) else ""
    size = told.get("size")
    return FilePart(name=name, size_bytes=size if isinstance(size, int) else 0, sha256=sha256)


def _checked(name: str, source: str) -> str:
    try:
        check_name(name)
    except BadContent as error:
        raise SourceRefused(f"{source}: {error}") from None
    return name


def _advice(status: int, name: str) -> str:
    if status not in (401, 403):
        return "; check the name"
    return f"; set {HUB_KEY} to a key that may read it" if name.startswith("hf:") else "; is the address complete?"
