"""Two mends of sampling on processors.

**Seeds of requests whose prompts are read in parts.**

After each part but the last, vLLM 0.32.0 takes the draw for the unfinished prompt back, by the generator's offset.
Generators on a processor have none: the core ended, with every request it ran. Here taking back is starting anew, which
is the same, as nothing was drawn before that counted. (Of an answer that vLLM itself set aside and took up again, the
rest is drawn from the start of the stream: another sample, still the seed's.)

**top_k beside speculation.** In a step in which nobody was proposed anything, vLLM 0.32.0 looks for the largest top_k
of no rows at all, and its core ends. No rows need no mask.

Only vLLM's worker process imports this module, through its engine argument ``worker_extension_cls``.
"""

from typing import Any

import torch
from vllm.v1.sample.ops import topk_topp_sampler


class Rewinding(torch.Generator):  # type: ignore[misc]
    """A processor's generator that can be taken back, to where it began."""

    def get_offset(self) -> int:
        """Nothing that is known."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Back to the seed."""
        del offset
        self.manual_seed(self.initial_seed())


class Extension:
    """What vLLM asks for by name; it has nothing of its own."""


_apply_top_k_only = topk_topp_sampler.apply_top_k_only


def apply_top_k_only(logits: Any, k: Any) -> Any:
    """VLLM's, also of no rows."""
    return _apply_top_k_only(logits, k) if k.numel() else logits


torch.Generator = Rewinding
topk_topp_sampler.apply_top_k_only = apply_top_k_only
