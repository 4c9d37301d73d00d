"""Prompt tokens are guessed from bytes until workers have counted, then from what they counted."""

import pytest

from router.http.dialects.prompt_size import CAPACITY, PromptSizes
from tests.support import fleets

NOBODY = fleets.snapshot()


def test_before_anything_is_known_four_bytes_are_a_token_and_a_message_has_its_template() -> None:
    assert PromptSizes().estimate("m", 400, 0, NOBODY) == 100
    assert PromptSizes().estimate("m", 400, 2, NOBODY) == 110


def test_a_worker_that_measured_its_tokenizer_is_believed() -> None:
    fleet = fleets.snapshot(fleets.worker("a", fleets.instance(tokens_per_byte=0.5)))
    assert PromptSizes().estimate("m", 400, 0, fleet) == 200


def test_exact_counts_correct_the_guess_and_new_ones_outweigh_old_ones() -> None:
    sizes = PromptSizes()
    sizes.learn("m", 1000, 1, 305)
    assert sizes.estimate("m", 1000, 1, NOBODY) == 305
    for _ in range(100):
        sizes.learn("m", 1000, 0, 500)
    assert sizes.estimate("m", 1000, 0, NOBODY) == pytest.approx(500, abs=1)


def test_short_prompts_teach_nothing() -> None:
    sizes = PromptSizes()
    sizes.learn("m", 2, 1, 40)
    assert sizes.estimate("m", 400, 0, NOBODY) == 100


def test_an_absurd_count_does_not_make_other_clients_prompts_too_long() -> None:
    """One worker's word counts for every client of the model: no tokenizer makes more tokens than there are bytes."""
    sizes = PromptSizes()
    sizes.learn("m", 200, 1, 2**32 - 1)
    assert sizes.estimate("m", 400, 0, NOBODY) == 400
    fleet = fleets.snapshot(fleets.worker("a", fleets.instance(tokens_per_byte=1e6)))
    assert PromptSizes().estimate("m", 400, 0, fleet) == 400


def test_memory_is_bounded() -> None:
    sizes = PromptSizes()
    for number in range(CAPACITY + 10):
        sizes.learn(f"m{number}", 1000, 0, 500)
    assert sizes.estimate("m0", 400, 0, NOBODY) == 100
    assert sizes.estimate(f"m{CAPACITY + 9}", 400, 0, NOBODY) == 200
