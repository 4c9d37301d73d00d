"""Who this worker is in its pool: the name the router gave it, kept over restarts; and asking for one on loopback."""

import asyncio
import fcntl
import re
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
import msgspec
import structlog

from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from workers.facts import Profile, Replica
from workers.session import codec
from workers.session.credentials import ChannelSecurity, open_channel
from workers.session.session import CHANNEL_OPTIONS

log = structlog.get_logger(__name__)

ENROL_TIMEOUT_S = 10.0
MAX_TWINS = 64


class EnrolFailed(Exception):
    """The router was not reached, or did not let the worker in; ``retryable`` tells which."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The router's answer: a name for life and where its replicas listen."""

    worker_id: str
    replicas: tuple[Replica, ...]


class _Saved(msgspec.Struct, frozen=True):
    worker_id: str


class IdentityFile:
    """The worker's id in its state directory. Workers alike on one machine take the files ``…-1``, ``…-2`` and so on.

    A file is held by an advisory lock while its worker lives, so that no two processes share an id.
    """

    def __init__(self, state_dir: Path, node: str, engine: str, models: tuple[str, ...]) -> None:
        name = "-".join((node, engine, *models))
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100] + f"-{zlib.crc32(name.encode()):08x}"
        folder = state_dir / "workers"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path, self._file = self._claim(folder, stem)

    @staticmethod
    def _claim(folder: Path, stem: str) -> tuple[Path, IO[bytes]]:
        for number in range(1, MAX_TWINS + 1):
            path = folder / f"{stem}-{number}.json"
            file = path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
            else:
                return path, file
        raise OSError(f"{MAX_TWINS} workers alike run from {folder} already: stop some, or choose another --state-dir")

    def read(self) -> str:
        """The id, or nothing when there is none (or the file cannot be understood)."""
        try:
            self._file.seek(0)
            return msgspec.json.decode(self._file.read(), type=_Saved).worker_id
        except msgspec.DecodeError:
            return ""

    def write(self, worker_id: str) -> None:
        """Keep the id; empty: forget it."""
        self._file.truncate(0)
        if worker_id:
            self._file.write(msgspec.json.encode(_Saved(worker_id=worker_id)))
        self._file.flush()

    def close(self) -> None:
        """Let another worker take this id."""
        self._file.close()


async def enrol(
    address: str, profile: Profile, *, token: str = "", security: ChannelSecurity | None = None
) -> Enrolment:
    """Ask a router replica to be let in. Raises EnrolFailed, InsecureAddress."""
    request = codec.enrol_request(token=token, certificate_request=b"", node=profile.node, profile_now=profile)
    async with open_channel(address, security, CHANNEL_OPTIONS) as channel:
        try:
            reply = await FleetStub(channel).Enrol(request, timeout=ENROL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            retryable = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            what = "was not reached" if retryable else "did not let this worker in"
            raise EnrolFailed(
                f"the router at {address} {what}: {error.details() or code.name}", retryable=retryable
            ) from None
    return Enrolment(worker_id=reply.worker_id, replicas=codec.replicas(reply.replicas))


async def enrol_anywhere(
    addresses: tuple[str, ...],
    profile: Profile,
    *,
    token: str = "",
    security: ChannelSecurity | None = None,
    patience_s: float = 60.0,
) -> Enrolment:
    """Ask each address in turn until one answers; a router that is still starting is waited for.

    Raises EnrolFailed when one refuses, or none was reached within ``patience_s``; InsecureAddress.
    """
    deadline = time.monotonic() + patience_s
    delay_s = 0.2
    while True:
        for address in addresses:
            try:
                return await enrol(address, profile, token=token, security=security)
            except EnrolFailed as failed:
                if not failed.retryable or time.monotonic() > deadline:
                    raise
                log.info("enrol.failed", router=address, reason=str(failed), retry_in_s=delay_s)
        await asyncio.sleep(delay_s)
        delay_s = min(5.0, delay_s * 2)
