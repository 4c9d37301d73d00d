"""Enrol and Renew over gRPC: what machines ask goes to the enroller, its refusals become status and reason code."""

from typing import Any, NoReturn, cast

import grpc
import structlog
from google.protobuf.message import DecodeError

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.allsorts.v1 import fleet_pb2_grpc as pb_grpc
from protos.contract.codec.enrolment import ENROL_REPLY, RENEW_REPLY, decode_enrol_request
from protos.contract.joining.enrolment import REASON_CODE_KEY, EnrolRefused
from protos.contract.validation import OutOfBounds
from router.sessions.peers import peer_of
from router.sessions.reading.event_bounds import read_enrolment
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


def fleet_handlers(servicer: pb_grpc.FleetServicer) -> Any:
    """As the generated code makes them, but sessions' events and enrolments come as bytes: what they would take in
    memory is seen before they are built.
    """

    async def enrol_read(raw: bytes, context: Any) -> pb.EnrolReply:
        try:
            request = read_enrolment(raw)
        except (OutOfBounds, DecodeError) as error:
            log.warning("enrolment.violation", reason=str(error), peer=context.peer())
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:500])
        return cast("pb.EnrolReply", await cast("Any", servicer.Enrol(request, context)))

    handlers = {
        "Enrol": grpc.unary_unary_rpc_method_handler(
            enrol_read, None, response_serializer=pb.EnrolReply.SerializeToString
        ),
        "Renew": grpc.unary_unary_rpc_method_handler(
            servicer.Renew, pb.RenewRequest.FromString, pb.RenewReply.SerializeToString
        ),
        "Session": grpc.stream_stream_rpc_method_handler(
            servicer.Session, None, response_serializer=pb.RouterCommand.SerializeToString
        ),
    }
    return grpc.method_handlers_generic_handler(pb.DESCRIPTOR.services_by_name["Fleet"].full_name, handlers)


async def _refuse(context: Any, refused: EnrolRefused) -> NoReturn:
    code = ((REASON_CODE_KEY, refused.code.value),)
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, refused.reason, trailing_metadata=code)
    raise AssertionError("abort raises")


async def _try_later(context: Any, error: StoreFailed) -> NoReturn:
    log.error("enrolment.failed", reason=str(error))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "the router cannot read its store now; try again later")
    raise AssertionError("abort raises")
