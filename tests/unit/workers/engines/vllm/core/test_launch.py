"""Rule: where this vLLM has no place for drafts from outside, the model is served without, and the reason is told."""

import pytest

from workers.engines.vllm.core import launch
from workers.engines.vllm.core.options import Options


@pytest.mark.parametrize(
    ("method", "lacks", "becomes", "says"),
    [
        ("tier", "", "tier", "own text"),
        ("tier", "this vLLM has no hook", "", "off: this vLLM has no hook"),
        ("ngram", "this vLLM has no hook", "ngram", "ngram"),
        ("", "", "", ""),
    ],
)
def test_the_tier_needs_the_hook(
    monkeypatch: pytest.MonkeyPatch, method: str, lacks: str, becomes: str, says: str
) -> None:
    """VLLM's own methods do not."""
    monkeypatch.setattr(launch, "why_no_hook", lambda: lacks)
    options, speculates = launch.speculation_of(Options(speculate=method))
    assert (options.speculate, speculates) == (becomes, says)
