"""Target to draft worker and back, on the wire."""

from protos.allsorts.v1 import draft_pb2 as pb
from protos.contract.codec.records import Record
from protos.contract.drafts import DraftContext, DraftProposal

DRAFT_CONTEXT = Record(DraftContext, pb.DraftContext)
DRAFT_PROPOSAL = Record(DraftProposal, pb.DraftProposal)
