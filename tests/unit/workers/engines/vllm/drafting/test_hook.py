"""Rule: drafts go to a vLLM only where all that they need is there in the form that is known; else
what lacks is said.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from workers.engines.vllm.drafting.hook import METHOD, what_lacks
from workers.engines.vllm.drafting.silent import Silent


class Known:
    """As vLLM 0.32.0 has it."""

    def update_draft_token_ids(self, draft_token_ids: Any) -> None: ...

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> None: ...


class Renamed:
    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> None: ...


class AsksMore(Known):
    def update_draft_token_ids(self, draft_token_ids: Any, probabilities: Any) -> None: ...  # type: ignore[override]


@dataclass
class Handed:
    req_ids: list[str]
    draft_token_ids: list[list[int]]


@dataclass
class HandedOtherwise:
    drafts: dict[str, list[int]]


@pytest.mark.parametrize(
    ("scheduler", "handed", "methods", "lacks"),
    [
        (Known, Handed, ["ngram", METHOD], ""),
        (Renamed, Handed, [METHOD], "no update_draft_token_ids(draft_token_ids)"),
        (AsksMore, Handed, [METHOD], "no update_draft_token_ids(draft_token_ids)"),
        (Known, HandedOtherwise, [METHOD], "in another form"),
        (Known, Handed, ["ngram"], "no speculative method 'custom_class'"),
    ],
)
def test_what_lacks_is_named(scheduler: type, handed: type, methods: list[str], lacks: str) -> None:
    """One reason, in words for the fleet's table."""
    found = what_lacks(scheduler, handed, methods)
    assert found == "" if not lacks else found.endswith(lacks)


def test_vllms_own_proposer_proposes_nothing() -> None:
    """For each sequence of the batch, whatever else a version passes."""
    silent = Silent(None)
    silent.load_model(object())
    assert silent.propose([[1], [], [2, 3]], object(), object(), slot_mappings=None) == [[], [], []]
