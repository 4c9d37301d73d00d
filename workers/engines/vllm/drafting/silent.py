"""A proposer that proposes nothing: vLLM makes room for drafts where it has one, and the scheduler fills it."""

from collections.abc import Sequence
from typing import Any


class Silent:
    """What vLLM's ``custom_class`` asks for; lives where the model runs, in each process that shares it."""

    def __init__(self, vllm_config: Any) -> None:
        """Nothing to set up."""

    def load_model(self, *_: Any) -> None:
        """It has none."""

    def propose(self, sampled_token_ids: Sequence[Sequence[int]], *_: Any, **__: Any) -> list[list[int]]:
        """For each of the batch's sequences, nothing."""
        return [[] for _ in sampled_token_ids]
