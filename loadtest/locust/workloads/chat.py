"""Single questions with the lengths and gaps of the Azure 2023 traces: chat, and code completion."""

import itertools
import random
from collections.abc import Iterator

from loadtest.locust.workloads.sessions import Session, Sizes, Turn
from loadtest.locust.workloads.text import words
from loadtest.simulate.draws import (
    AZURE_CONTEXT,
    AZURE_GAP_CV,
    AZURE_GENERATED,
    CODE_CONTEXT,
    CODE_GAP_CV,
    CODE_GENERATED,
    gamma_gaps,
    hyperexponential_gaps,
    lognormal,
)

_MOST = 1e6


def azure_like(rng: random.Random, sizes: Sizes) -> Iterator[Session]:
    """Chat: prompts of 760 tokens and answers of 150 in the median, arrivals a little burstier than Poisson's."""
    return _single("azure-like", gamma_gaps(1.0, AZURE_GAP_CV, rng), rng, sizes, AZURE_CONTEXT, AZURE_GENERATED)


def code_like(rng: random.Random, sizes: Sizes) -> Iterator[Session]:
    """Code completion: long prompts, answers of 16 tokens in the median, in bursts (gap CV 13)."""
    return _single("code-like", hyperexponential_gaps(1.0, CODE_GAP_CV, rng), rng, sizes, CODE_CONTEXT, CODE_GENERATED)


def _single(
    kind: str,
    gaps: Iterator[float],
    rng: random.Random,
    sizes: Sizes,
    context: tuple[float, float],
    generated: tuple[float, float],
) -> Iterator[Session]:
    at = 0.0
    for number in itertools.count():
        at += next(gaps)
        text = words(sizes.prompt(lognormal(rng, *context, 8, _MOST)), rng)
        turn = Turn(text=text, output_tokens=sizes.output(lognormal(rng, *generated, 2, _MOST)))
        yield Session(number=number, at=at, kind=kind, turns=(turn,))
