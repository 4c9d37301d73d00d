"""How a machine is let in, on the wire."""

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.records import Record
from protos.contract.codec.worker import INSTANCE, PROFILE, REPLICA
from protos.contract.joining.enrolment import EnrolReply, EnrolRequest, ModelOffer, RenewReply
from protos.contract.validation import OutOfBounds, check_instance

MAX_FILES = 64
"""Model files of one machine that are looked at."""

ENROL_REQUEST = Record(EnrolRequest, pb.EnrolRequest, {"profile": PROFILE, "files": INSTANCE})
ENROL_REPLY = Record(EnrolReply, pb.EnrolReply, {"replicas": REPLICA, "offers": Record(ModelOffer, pb.ModelOffer)})
RENEW_REPLY = Record(RenewReply, pb.RenewReply)


def decode_enrol_request(message: pb.EnrolRequest) -> EnrolRequest:
    """What a worker asks to be let in. Files that no machine can have are left out, and those past ``MAX_FILES``."""
    believable = [INSTANCE.decode(one) for one in message.files[:MAX_FILES] if _believable(one)]
    return ENROL_REQUEST.decode(message, files=tuple(believable))


def _believable(file: pb.ModelInstance) -> bool:
    try:
        check_instance(file)
    except OutOfBounds:
        return False
    return True
