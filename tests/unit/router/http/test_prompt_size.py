"""Prompt tokens are guessed from bytes until workers have counted, then from what they counted of such text."""

import pytest

from router.http.dialects.shared.prompt_size import CAPACITY, PromptSizes, TextFacts, TextKind, facts_of
from tests.support import fleets

NOBODY = fleets.snapshot()


def prose(size_bytes: int, messages: int = 0) -> TextFacts:
    return TextFacts(size_bytes, messages, TextKind.PROSE)


def test_before_anything_is_known_four_bytes_are_a_token_and_a_message_has_its_template() -> None:
    assert PromptSizes().estimate("m", prose(400), NOBODY) == 100
    assert PromptSizes().estimate("m", prose(400, 2), NOBODY) == 110


def test_a_worker_that_measured_its_tokenizer_is_believed() -> None:
    fleet = fleets.snapshot(fleets.worker("a", fleets.instance(tokens_per_byte=0.5)))
    assert PromptSizes().estimate("m", prose(400), fleet) == 200


def test_exact_counts_correct_the_guess_and_new_ones_outweigh_old_ones() -> None:
    sizes = PromptSizes()
    sizes.learn("m", prose(1000, 1), 305)
    assert sizes.estimate("m", prose(1000, 1), NOBODY) == 305
    for _ in range(100):
        sizes.learn("m", prose(1000), 500)
    assert sizes.estimate("m", prose(1000), NOBODY) == pytest.approx(500, abs=1)


def test_short_prompts_teach_nothing() -> None:
    sizes = PromptSizes()
    sizes.learn("m", prose(2, 1), 40)
    assert sizes.estimate("m", prose(400), NOBODY) == 100


def test_text_of_another_kind_or_size_teaches_nothing_about_this_one() -> None:
    """A hundred bytes of digits, a token each, say nothing of ten pages of prose."""
    sizes = PromptSizes()
    for _ in range(5):
        sizes.learn("m", facts_of(b"31415926535897932384" * 5, 1), 105)
        sizes.learn("m", prose(100, 1), 105)
    assert sizes.estimate("m", prose(8000), NOBODY) == 2000


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("The quick brown fox jumps over the lazy dog, and so on.", "prose"),
        ("Le cœur a ses raisons que la raison ne connaît point", "prose"),
        ("for (i=0;i<n;++i){a[i]^=b[i]>>3;}", "code"),
        ('{"a": [1, 2], "b": null}', "code"),
        ("2718281828 4590452353", "digits"),
        ("敏捷的棕色狐狸跳过了懒狗", "foreign"),
        ("Съешь ещё этих мягких", "foreign"),
        ("", "code"),
    ],
)
def test_the_kind_of_a_text_is_told_from_its_bytes(text: str, kind: str) -> None:
    assert facts_of(text.encode(), 0).kind == kind


def test_the_kind_of_a_long_text_is_told_from_its_ends() -> None:
    assert facts_of(b"word " * 1_000_000, 0) == TextFacts(5_000_000, 0, TextKind.PROSE)


def test_an_absurd_count_does_not_make_other_clients_prompts_too_long() -> None:
    """One worker's word counts for every client of the model: no tokenizer makes more tokens than there are bytes."""
    sizes = PromptSizes()
    sizes.learn("m", prose(400, 1), 2**32 - 1)
    assert sizes.estimate("m", prose(400), NOBODY) == 400
    fleet = fleets.snapshot(fleets.worker("a", fleets.instance(tokens_per_byte=1e6)))
    assert PromptSizes().estimate("m", prose(400), fleet) == 400


def test_memory_is_bounded() -> None:
    sizes = PromptSizes()
    for number in range(CAPACITY + 10):
        sizes.learn(f"m{number}", prose(1000), 500)
    assert sizes.estimate("m0", prose(1000), NOBODY) == 250
    assert sizes.estimate(f"m{CAPACITY + 9}", prose(1000), NOBODY) == 500
