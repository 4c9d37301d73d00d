"""Seeds of requests whose prompts are read in parts, on processors.

After each part but the last, vLLM 0.32.0 takes the draw for the unfinished prompt back, by the generator's offset.
Generators on a processor have none: the core ended, with every request it ran. Here taking back is starting anew, which
is the same, as nothing was drawn before that counted. (Of an answer that vLLM itself set aside and took up again, the
rest is drawn from the start of the stream: another sample, still the seed's.)

Only vLLM's worker process imports this module, through its engine argument ``worker_extension_cls``.
"""

import torch


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


torch.Generator = Rewinding
