"""What targets and draft workers say to each other. One call carries all sequences of one target."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftContext:
    """What a target tells of one sequence, and what it asks for."""

    request_id: str  # any name, unique within the call
    epoch: int  # grows when the target said something else than was proposed
    position: int  # tokens there are, prompt included, with those told here
    token_ids: tuple[int, ...] = ()  # told since the last context of this sequence: the last of ``position``
    draft_length: int = 0  # tokens asked for behind them; 0 ends the sequence
    deadline_s: float = 0.0  # from receipt
    tokenizer_fingerprint: str = ""  # with the first context of a sequence
    model: str = ""  # with the first context; empty: the only one there is
    quantization: str = ""
    ahead: int = 0  # further tokens to go on with while the target verifies


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftProposal:
    """Tokens that a draft proposes for one sequence."""

    request_id: str  # empty: a refusal of the whole call
    epoch: int
    position: int  # of the first token
    token_ids: tuple[int, ...] = ()
    refusal: str = ""  # why there will be none for this sequence: one line
    compute_s: float = 0.0  # what they took at the draft
