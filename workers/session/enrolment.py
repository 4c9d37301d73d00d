"""Asking a router to be let in, and for a fresh certificate: the two calls beside the session."""

import asyncio
import time
from collections.abc import Sequence

import grpc
import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1.fleet_pb2_grpc import FleetStub
from protos.contract.codec.enrolment import ENROL_REPLY, ENROL_REQUEST, RENEW_REPLY
from protos.contract.joining.enrolment import REASON_CODE_KEY, EnrolReply, EnrolRequest, ReasonCode, RenewReply
from protos.contract.joining.versions import PROTOCOL_VERSION
from protos.contract.worker import ModelInstance, Profile
from workers.errors import WorkerError
from workers.session.channel import ChannelSecurity, open_channel

log = structlog.get_logger(__name__)

ENROL_TIMEOUT_S = 10.0

_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class EnrolFailed(WorkerError):
    """The router was not reached (``retryable``), or did not let the worker in. ``detail``: its own words; ``code``:
    its reason, when it gave one that is known here.
    """

    def __init__(self, message: str, *, retryable: bool, detail: str = "", code: ReasonCode | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.detail = detail or message
        self.code = code


async def enrol_over(
    channel: grpc.aio.Channel,
    address: str,
    profile: Profile,
    *,
    token: str = "",
    certificate_request: bytes = b"",
    files: Sequence[ModelInstance] = (),
) -> EnrolReply:
    """Ask to be let in, over a channel to ``address``. Raises EnrolFailed."""
    request = EnrolRequest(
        token=token,
        certificate_request=certificate_request,
        profile=profile,
        protocol_version=PROTOCOL_VERSION,
        files=tuple(files),
    )
    try:
        reply = await FleetStub(channel).Enrol(ENROL_REQUEST.encode(request), timeout=ENROL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise _failed(address, error) from None
    return ENROL_REPLY.decode(reply)


async def renew_over(channel: grpc.aio.Channel, address: str, certificate_request: bytes) -> RenewReply:
    """Ask for a fresh certificate, over a channel of the old one. Raises EnrolFailed."""
    try:
        request = pb.RenewRequest(certificate_request=certificate_request)
        reply = await FleetStub(channel).Renew(request, timeout=ENROL_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        raise _failed(address, error) from None
    return RENEW_REPLY.decode(reply)


def _failed(address: str, error: grpc.aio.AioRpcError) -> EnrolFailed:
    retryable = error.code() in _RETRYABLE
    what = "was not reached" if retryable else "did not let this machine in"
    detail = error.details() or error.code().name
    line = f"the router at {address} {what}: {detail}"
    return EnrolFailed(line, retryable=retryable, detail=detail, code=_reason_code(error))


def _reason_code(error: grpc.aio.AioRpcError) -> ReasonCode | None:
    given = dict(error.trailing_metadata()).get(REASON_CODE_KEY)
    return ReasonCode(given) if given in set(ReasonCode) else None


async def enrol(
    address: str, profile: Profile, *, token: str = "", security: ChannelSecurity | None = None
) -> EnrolReply:
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
) -> EnrolReply:
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
