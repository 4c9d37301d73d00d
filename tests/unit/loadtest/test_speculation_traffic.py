"""Rule: what is measured is a conversation that the user has the last word in, and a model can be seen to repeat."""

import pytest

from loadtest.bench.speculation.traffic import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_user_speaks_last_and_repetition_has_an_example(kind: str) -> None:
    """A small model follows an example; it does not follow an order."""
    turns, repeats = KINDS[kind]
    assert len(turns) % 2 == 1
    assert (len(turns) > 1) is repeats


@pytest.mark.parametrize("kind", [kind for kind, (_, repeats) in KINDS.items() if repeats])
def test_an_example_answers_its_question(kind: str) -> None:
    """Most of its words were said in the question."""
    question, answer, *_ = KINDS[kind][0]
    said = set(question.replace(",", " ").replace('"', " ").split())
    words = answer.replace(",", " ").replace('"', " ").replace("}", " ").split()
    assert sum(word in said for word in words) >= 0.3 * len(words)
