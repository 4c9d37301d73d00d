"""What the head hands out, fetched over the pool's TLS: its own version, and what lies beside it.

A machine that joins shows its token, one that has joined its certificate. Every file is checked by the hash that the
offer promised.
"""

import contextlib
import hashlib
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import msgspec

from protos.contract.addresses import join_host_port
from protos.contract.joining.certificates import SERVER_NAME
from workers.errors import WorkerError

DEADLINE_S = 30.0
MAX_FILE_BYTES = 2 * 2**30


class NotOffered(WorkerError):
    """The head does not hand out what was asked for, or not to this machine; one line."""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel beside the head's own."""

    name: str
    size_bytes: int
    sha256: str


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel that one machine compiled, for machines like it: those that work out the same ``key``."""

    key: str
    name: str
    size_bytes: int
    sha256: str
    about: str = ""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What there is."""

    wheel: str
    wheel_sha256: str
    packages: tuple[Package, ...] = ()
    builds: tuple[Build, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who asks: by ``token``, or by certificate and key. ``authority_pem`` is the pinned CA."""

    authority_pem: bytes
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS that trusts this CA alone."""
        context = ssl.create_default_context(cadata=self.authority_pem.decode())
        if self.certificate is not None and self.key is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class DoorClient:
    """Asks one install port. Blocks; a context manager."""

    def __init__(self, host: str, port: int, credentials: Credentials) -> None:
        self._base = f"https://{join_host_port(host, port)}"
        headers = {"authorization": f"Bearer {credentials.token}"} if credentials.token else {}
        self._client = httpx.Client(
            verify=credentials.context(), headers=headers, timeout=DEADLINE_S, trust_env=False  # no proxy in between
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closed."""
        self._client.close()

    def offer(self) -> Offer:
        """What the head hands out. Raises NotOffered."""
        with self._get("/offer.json") as answer:
            try:
                return msgspec.json.decode(answer.read(), type=Offer)
            except msgspec.DecodeError as error:
                raise NotOffered(f"{self._base}: its offer cannot be understood: {error}") from None

    def fetch(self, path: str, sha256: str, into: Path) -> Path:
        """``path`` (``files/NAME``, ``builds/KEY/NAME``) as a file in ``into``. Raises NotOffered, OSError.

        Nothing is left of a file whose hash is another than ``sha256``.
        """
        target = into / Path(path).name
        digest, size = hashlib.sha256(), 0
        with self._get(f"/{path}") as answer, target.open("wb") as file:
            for part in answer.iter_bytes():
                size += len(part)
                if size > MAX_FILE_BYTES:
                    break
                digest.update(part)
                file.write(part)
        if digest.hexdigest() != sha256:
            target.unlink()
            raise NotOffered(f"{self._base}/{path} has another hash than promised; nothing of it was kept")
        return target

    @contextlib.contextmanager
    def _get(self, path: str) -> Iterator[httpx.Response]:
        request = self._client.build_request("GET", self._base + path, extensions={"sni_hostname": SERVER_NAME})
        try:
            answer = self._client.send(request, stream=True)
            with contextlib.closing(answer):
                if answer.status_code != 200:
                    said = answer.read().decode("utf-8", "replace").strip()[:300]
                    raise NotOffered(f"{self._base}{path}: {said or answer.status_code}")
                yield answer
        except httpx.HTTPError as error:
            raise NotOffered(f"{self._base}{path}: {error or type(error).__name__}") from None
