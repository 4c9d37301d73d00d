"""Asking a router to be let in, and for a fresh certificate: the two calls beside the session."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import structlog

from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.enrolment import ModelOffer
from protos.contract.worker import ModelInstance, Profile, Replica
from workers.errors import WorkerError
from workers.session import codec
from workers.session.channel import ChannelSecurity, open_channel

log = structlog.get_logger(__name__)

ENROL_TIMEOUT_S = 10.0

_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class EnrolFailed(WorkerError):
    """The router was not reached (``retryable``), or did not let the worker in. ``detail``: its own words."""

    def __init__(self, message: str, *, retryable: bool, detail: str = "") -> None:
        super().__init__(message)
        self.retryable = retryable
        self.detail = detail or message


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """The router's answer: a name for life and where its replicas listen; over TLS also a certificate, and what it
    thinks the machine should serve.
    """

    worker_id: str
    replicas: tuple[Replica, ...]
    certificate: bytes = b""
    expires_at_unix_s: float = 0.0
    offers: tuple[ModelOffer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A fresh certificate for the same key, PEM."""

    certificate: bytes
    expires_at_unix_s: float


async def enrol_over(
    channel: grpc.aio.Channel,
    address: str,
    profile: Profile,
    *,
    token: str = "",
    certificate_request: bytes = b"",
    files: Sequence[ModelInstance] = (),
) -> Enrolment:
    """Ask to be let in, over a channel to ``address``. Raises EnrolFailed."""
    request = codec.enrol_request(
        token=token,
        certificate_request=certificate_request,
        node=profile.node,
        profile_now=profile,
        files=files,
    )
    try:
        reply = await FleetStub(channel).Enrol(request, timeout=ENROL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise _failed(address, error) from None
    return Enrolment(
        worker_id=reply.worker_id,
        replicas=codec.replicas(reply.replicas),
        certificate=reply.certificate,
        expires_at_unix_s=reply.expires_at_unix_s,
        offers=codec.offers(reply.offers),
    )


async def renew_over(channel: grpc.aio.Channel, address: str, certificate_request: bytes) -> Renewal:
    """Ask for a fresh certificate, over a channel of the old one. Raises EnrolFailed."""
    try:
        reply = await FleetStub(channel).Renew(codec.renew_request(certificate_request), timeout=ENROL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise _failed(address, error) from None
    return Renewal(certificate=reply.certificate, expires_at_unix_s=reply.expires_at_unix_s)


def _failed(address: str, error: grpc.aio.AioRpcError) -> EnrolFailed:
    retryable = error.code() in _RETRYABLE
    what = "was not reached" if retryable else "did not let this machine in"
    detail = error.details() or error.code().name
    return EnrolFailed(f"the router at {address} {what}: {detail}", retryable=retryable, detail=detail)


async def enrol(
    address: str, profile: Profile, *, token: str = "", security: ChannelSecurity | None = None
) -> Enrolment:
    """Ask a router replica to be let in. Raises EnrolFailed, InsecureAddress."""
    async with open_channel(address, security) as channel:
        return await enrol_over(channel, address, profile, token=token)


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
