"""Where a target's draft is and who must answer there: a value that may cross to another process of the engine."""

from dataclasses import dataclass
from pathlib import Path

from protos.contract.ids import WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftTls:
    """PEM files, read at each connect: the fleet's CA, this worker's certificate, its key."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftLink:
    """One target model's way to its draft."""

    address: str  # host:port
    draft_worker_id: WorkerId  # its certificate must say so
    own_worker_id: WorkerId  # who asks; with TLS the certificate says it
    model: str = ""  # of the draft; empty: the only one there is
    quantization: str = ""
    tokenizer_fingerprint: str  # of the target, and so of the draft
    draft_length: int = 0  # a round, at most; 0: as long as pays
    tls: DraftTls | None = None  # None: plain text, on this machine only
