"""Target to draft worker and back, on the wire."""

from collections.abc import Iterable
from dataclasses import replace

from protos.allsorts.v1 import draft_pb2 as pb
from protos.contract.codec.records import Record
from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.printable import one_line

_CONTEXT = Record(DraftContext, pb.DraftContext)
_PROPOSAL = Record(DraftProposal, pb.DraftProposal)


def encode_contexts(contexts: Iterable[DraftContext]) -> pb.DraftContexts:
    """Of one step, as one message."""
    return pb.DraftContexts(contexts=[_CONTEXT.encode(one) for one in contexts])


def decode_contexts(message: pb.DraftContexts) -> list[DraftContext]:
    """What a target tells and asks."""
    return [_CONTEXT.decode(one) for one in message.contexts]


def encode_proposals(proposals: Iterable[DraftProposal]) -> pb.DraftProposals:
    """Those of one target."""
    return pb.DraftProposals(proposals=[_PROPOSAL.encode(one) for one in proposals])


def decode_proposals(message: pb.DraftProposals) -> list[DraftProposal]:
    """What a draft proposes; a refusal is one line."""
    return [replace(one, refusal=one_line(one.refusal)) for one in map(_PROPOSAL.decode, message.proposals)]
