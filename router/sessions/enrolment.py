"""Enrol and Renew over gRPC: what machines ask goes to the enroller, its refusals become status and reason code."""

from typing import Any, NoReturn

import grpc
import structlog

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1 import fleet_pb2_grpc as pb_grpc
from protos.contract.codec.enrolment import ENROL_REPLY, RENEW_REPLY, decode_enrol_request
from protos.contract.joining.enrolment import REASON_CODE_KEY, EnrolRefused
from router.sessions.peers import peer_of
from router.state.backend import StoreFailed
from router.trust.enroller import Enroller

log = structlog.get_logger()

NOT_HERE = "this port only enrols; dial the session address that enrolment named, with the certificate it gave"


async def enrol(enroller: Enroller, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:
    """Answer Enrol, or abort the call."""
    try:
        answer = await enroller.enrol(decode_enrol_request(request), peer_of(context))
    except StoreFailed as error:
        await _try_later(context, error)
    if isinstance(answer, EnrolRefused):
        await _refuse(context, answer)
    return ENROL_REPLY.encode(answer)


async def renew(enroller: Enroller, request: pb.RenewRequest, context: Any) -> pb.RenewReply:
    """Answer Renew, or abort the call."""
    try:
        answer = await enroller.renew(request.certificate_request, peer_of(context))
    except StoreFailed as error:
        await _try_later(context, error)
    if isinstance(answer, EnrolRefused):
        await _refuse(context, answer)
    return RENEW_REPLY.encode(answer)


class EnrolmentServicer(pb_grpc.FleetServicer):
    """Serves Enrol alone: whoever has no certificate gets no further."""

    def __init__(self, enroller: Enroller) -> None:
        self._enroller = enroller

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolReply:  # noqa: N802 - gRPC's name
        """Delegated."""
        return await enrol(self._enroller, request, context)

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewReply:  # noqa: ARG002, N802
        """Not here."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, NOT_HERE)
        raise AssertionError("abort raises")

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: ARG002, N802
        """Not here."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, NOT_HERE)


async def _refuse(context: Any, refused: EnrolRefused) -> NoReturn:
    code = ((REASON_CODE_KEY, refused.code.value),)
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, refused.reason, trailing_metadata=code)
    raise AssertionError("abort raises")


async def _try_later(context: Any, error: StoreFailed) -> NoReturn:
    log.error("enrolment.failed", reason=str(error))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the router cannot read its store now; try again later")
    raise AssertionError("abort raises")
