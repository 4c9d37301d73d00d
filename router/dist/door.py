"""The install port: HTTPS with the pool's own certificates, for machines that have not joined yet and those that have.

- ``/installer.py``, ``/ca.pem``: open to all. What they are is checked by the hashes in the printed line and in the
  token, not by where they come from.
- ``/offer.json``, ``/files/NAME``: for holders of a join token (``Authorization: Bearer``) and for connections that
  show a certificate of this pool.
"""

import asyncio
import contextlib
import hashlib
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from protos.contract.addresses import join_host_port
from router.config import RouterConfig
from router.dist.access import Access
from router.dist.builds import Builds
from router.dist.installer import installer
from router.dist.own_wheel import Wheel, own_wheel
from router.dist.shelf import Package, Shelf, shelf_folder
from router.domain.clock import Clock
from router.errors import AllsortsError, ConfigError, NotFound
from router.state.backend import StoreFailed
from router.trust.authority import Authority, ServerIdentity
from router.trust.exposure import advertised_host
from router.trust.join_lines import INSTALL_FACT, INSTALLER, InstallFact
from router.trust.security import Security
from router.trust.server_identity import RotatingIdentity

log = structlog.get_logger()

MAX_CONNECTIONS = 64
CONNECTION_LIFE_S = 900.0
"""Whoever is not done by then starts anew: a slow reader holds nothing for ever."""

SILENT_S = 20.0
"""Whoever has asked for nothing by then holds up others."""

HANDSHAKE_S = 10.0
ROTATION_POLL_S = 60.0
STOP_GRACE_S = 2.0


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/offer.json`` tells."""

    wheel: str
    wheel_sha256: str
    packages: list[Package]
    builds: list[dict[str, Any]]  # key, about, and what a package has


@dataclass(slots=True)
class Door:
    """The port that is open."""

    port: int
    _server: asyncio.Server
    _rotation: asyncio.Task[None]
    _runner: web.ServerRunner

    async def close(self) -> None:
        """Refuse new connections, end those that are there."""
        self._rotation.cancel()
        await asyncio.gather(self._rotation, return_exceptions=True)
        self._server.close()
        await self._runner.cleanup()


async def open_door(security: Security, config: RouterConfig, clock: Clock) -> Door | None:
    """Listen on ``grpc.install_port`` (0: any free one), and note in the store what the printed lines need. None for a plain pool, which nobody joins from elsewhere.

    Raises ConfigError when the port is taken.
    """
    if security.authority is None:
        return None
    wheel = await asyncio.to_thread(own_wheel)
    script = installer(wheel)
    pages = _Pages(security, security.authority, wheel, script, Shelf(shelf_folder(config.state_dir)), clock)
    runner = web.ServerRunner(web.Server(pages.answer, access_log=None), shutdown_timeout=STOP_GRACE_S)
    await runner.setup()
    host, tls = config.grpc.host, _Tls(security.authority, (config.grpc.host, advertised_host(config.grpc)), clock)
    try:
        server = await asyncio.get_running_loop().create_server(
            _bounded(runner, pages), host, config.grpc.install_port, ssl=tls.context, ssl_handshake_timeout=HANDSHAKE_S
        )
    except OSError as error:
        await runner.cleanup()
        where = join_host_port(host, config.grpc.install_port)
        raise ConfigError(
            f"the install port {where} cannot be opened ({error.strerror}); choose another with --install-port"
        ) from None
    port = int(server.sockets[0].getsockname()[1])
    log.info("install_port.listening", host=host, port=port, wheel=wheel.name, sha256=wheel.sha256)
    fact = InstallFact(port=port, installer_sha256=hashlib.sha256(script).hexdigest())
    await security.store.remember(INSTALL_FACT, msgspec.json.encode(fact).decode())
    return Door(port, server, asyncio.create_task(tls.rotate(), name="install port's certificate"), runner)


class _Pages:
    """What is behind the port."""

    def __init__(
        self, security: Security, authority: Authority, wheel: Wheel, script: bytes, shelf: Shelf, clock: Clock
    ) -> None:
        self._access = Access(security.store, authority.fingerprint, clock)
        self._open = {INSTALLER: script, "/ca.pem": authority.certificate_pem}
        self.silent: set[Any] = set()  # connections of the last SILENT_S that have asked for nothing yet
        self._wheel = wheel
        self._shelf = shelf
        self._builds = Builds(shelf.folder)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request; a refusal is its reason in plain text."""
        self.silent.discard(request.protocol)
        try:
            return await self._answer(request)
        except AllsortsError as error:
            log.warning("install_port.refused", peer=request.remote, path=request.path[:200], reason=error.message)
            return web.Response(status=error.http_status, text=error.message)
        except StoreFailed as error:
            log.error("install_port.failed", reason=str(error))
            return web.Response(status=503, text="the router cannot read its store now; try again later")

    def end_if_silent(self, connection: Any) -> None:
        """aiohttp waits for a first request without end."""
        if connection in self.silent:
            self.silent.discard(connection)
            connection.force_close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="only GET is answered here")
        if request.path in self._open:
            return web.Response(body=self._open[request.path], content_type="text/plain")
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        who = await self._access.check(request.headers.get("Authorization", ""), certificate)
        if request.path == "/offer.json":
            log.info("install_port.offered", peer=request.remote, to=who)
            return web.Response(body=msgspec.json.encode(await self._offer()), content_type="application/json")
        if request.path == f"/files/{self._wheel.name}":
            return web.Response(body=self._wheel.data, content_type="application/octet-stream")
        if (path := await asyncio.to_thread(self._file, request.path)) is None:
            raise NotFound(f"there is no {request.path[:200]} here")
        return web.FileResponse(path)

    def _file(self, path: str) -> Path | None:
        """``/files/NAME`` or ``/builds/KEY/NAME``."""
        match path.split("/"):
            case ["", "files", name]:
                return self._shelf.path(name)
            case ["", "builds", key, name]:
                return self._builds.path(key, name)
        return None

    async def _offer(self) -> Offer:
        packages = await asyncio.to_thread(self._shelf.packages)
        builds = await asyncio.to_thread(self._builds.all)
        return Offer(
            wheel=self._wheel.name,
            wheel_sha256=self._wheel.sha256,
            packages=packages,
            builds=[
                {"key": one.note.key, "about": one.note.about, **msgspec.to_builtins(one.package)} for one in builds
            ],
        )


class _Tls:
    """A server context whose certificate is replaced while it serves."""

    def __init__(self, authority: Authority, hosts: tuple[str, ...], clock: Clock) -> None:
        self._identity = RotatingIdentity(authority, hosts=hosts, clock=clock)
        self._shown = self._identity.current()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.load_verify_locations(cadata=authority.certificate_pem.decode())
        self._load(self._shown)

    async def rotate(self) -> None:
        """Until cancelled; new connections see the new certificate."""
        while True:
            await asyncio.sleep(ROTATION_POLL_S)
            if (fresh := self._identity.current()) is not self._shown:
                self._shown = fresh
                self._load(fresh)

    def _load(self, identity: ServerIdentity) -> None:
        with tempfile.TemporaryDirectory() as folder:  # 0700; ssl takes files alone
            chain, key = Path(folder) / "chain.pem", Path(folder) / "key.pem"
            chain.write_bytes(identity.chain_pem)
            key.write_bytes(identity.key_pem)
            self.context.load_cert_chain(chain, key)


def _bounded(runner: web.ServerRunner, pages: _Pages) -> Any:
    """aiohttp's protocol for each connection: so many at once, each for so long, none that asks nothing."""
    server = runner.server
    assert server is not None

    def connected() -> asyncio.BaseProtocol:
        if len(server.connections) >= MAX_CONNECTIONS:
            return _Refused()
        handler, loop = server(), asyncio.get_running_loop()
        pages.silent.add(handler)
        loop.call_later(SILENT_S, pages.end_if_silent, handler)
        loop.call_later(CONNECTION_LIFE_S, handler.force_close)
        return handler

    return connected


class _Refused(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ended at once."""
        with contextlib.suppress(OSError):
            transport.close()
