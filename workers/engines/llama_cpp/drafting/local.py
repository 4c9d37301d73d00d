"""A small model in the target's own process: the same drafter as one elsewhere, on a line that goes nowhere.

It computes in the target's thread while that waits, so nothing goes on ahead.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.ids import WorkerId
from workers.drafting.client import RemoteDrafter
from workers.drafting.line import Heard
from workers.drafting.link import DraftLink
from workers.engines.base import LoadError
from workers.engines.llama_cpp.drafting.runner import DraftModel
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.llama_cpp.options import Options

HERE = "this process"


class LocalLine:
    """Implements ``workers.drafting.line.Line``; owns the model."""

    def __init__(self, model: NativeModel, options: Options, heard: Heard) -> None:
        self._model: NativeModel | None = model
        self._draft = DraftModel(model, options)
        self._heard = heard

    def send(self, contexts: Sequence[DraftContext]) -> None:
        """Compute and answer at once.

        Where nobody waits, a long prompt is read in pieces, one each time: no stream stands still for it.
        """
        if self._model is None:
            return
        table = self._draft.table
        answers = [
            DraftProposal(request_id=one.request_id, epoch=one.epoch, position=one.position, refusal=why)
            for one in contexts
            if (why := table.tell(HERE, replace(one, ahead=0), time.monotonic()))
        ]
        answers += [proposal for _, proposal in table.proposals()]
        waited_for = any(one.deadline_s > 0.0 for one in contexts)
        while any(one.draft_length for one in contexts) and self._draft.step(time.monotonic()):
            answers += [proposal for _, proposal in table.proposals()]
            if table.reads and not waited_for:
                break
        if answers:
            self._heard.arrived(answers)

    def close(self) -> None:
        """Free the model. Idempotent."""
        model, self._model = self._model, None
        if model is not None:
            model.close()


def local_drafter(path: Path, target: NativeModel, options: Options) -> RemoteDrafter:
    """A drafter of the model at ``path`` for ``target``, whose options are given. Raises LoadError."""
    mine = replace(options, draft_model="", exact=False)
    model = NativeModel(path, mine, lambda _fraction: None)
    tokenizer = target.tokenizer_fingerprint()
    if model.tokenizer_fingerprint() != tokenizer:
        model.close()
        raise LoadError(f"{path}: its tokenizer is another one than the target's; it cannot draft for it")
    step_s = min(model.time_rows(1) for _ in range(3))
    link = DraftLink(
        address=HERE,
        draft_worker_id=WorkerId(""),
        own_worker_id=WorkerId(""),
        model=path.name,
        tokenizer_fingerprint=tokenizer,
    )
    drafter = RemoteDrafter(link, target.vocab_size, dial=lambda _link, heard: LocalLine(model, mine, heard))
    drafter.opened()
    drafter.pace.computed(1, step_s)
    return drafter
