"""Facts about workers on the wire."""

from typing import Any

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.prompts import GRAMMAR_KINDS
from protos.contract.codec.records import Names, Record
from protos.contract.curve import CurvePoint
from protos.contract.printable import one_line
from protos.contract.worker import (
    Capabilities,
    Hardware,
    InstanceState,
    Load,
    ModelInstance,
    Profile,
    Replica,
    SamplingDefaults,
    Speed,
)

INSTANCE_STATES = Names(InstanceState, pb.ModelState.DESCRIPTOR, unknown=InstanceState.LOADING)

LOAD = Record(Load, pb.Load, apart=("observed_at", "last_step_prefills"))  # these are not told
REPLICA = Record(Replica, pb.Replica)
PROFILE = Record(Profile, pb.Profile, {"hardware": Record(Hardware, pb.Hardware)})


def _believable(facts: dict[str, Any]) -> None:
    """What stands in sums and divisions is never 0; a worker's words are fit to be shown."""
    facts["active_parameters"] = facts["active_parameters"] or facts["parameters"]
    facts["slots"] = max(1, facts["slots"])
    facts["block_tokens"] = max(1, facts["block_tokens"])
    facts["error"] = one_line(facts["error"])
    facts["speculates"] = one_line(facts["speculates"])


def _known(able: dict[str, Any]) -> None:
    """Kinds of grammars that a newer worker has are not asked for here."""
    able["grammars"] = tuple(one for one in able["grammars"] if one is not None)


_POINT = Record(CurvePoint, pb.CurvePoint)
SPEED = Record(Speed, pb.Speed, {"decode_curve": _POINT, "prefill_curve": _POINT})


INSTANCE = Record(
    ModelInstance,
    pb.ModelInstance,
    {
        "capabilities": Record(Capabilities, pb.Capabilities, {"grammars": GRAMMAR_KINDS}, clean=_known),
        "sampling": Record(SamplingDefaults, pb.SamplingDefaults),
        "speed": SPEED,
        "state": INSTANCE_STATES,
    },
    clean=_believable,
)
