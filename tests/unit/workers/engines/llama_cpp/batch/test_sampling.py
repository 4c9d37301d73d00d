"""Rule: what is drawn is what may be drawn, whatever else the request asks of the draw."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.request import Sampling
from workers.engines.llama_cpp.batch.sampling import Sampler

SIZE = 50
LOGITS = np.random.default_rng(3).normal(size=SIZE).astype(np.float32)


@given(
    allowed=st.sets(st.integers(0, SIZE - 1), min_size=1),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    top_k=st.integers(0, SIZE + 1),
    top_p=st.sampled_from([0.1, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.2]),
    penalty=st.sampled_from([0.0, 1.5]),
    bias=st.dictionaries(st.integers(0, SIZE - 1), st.floats(-100, 100, width=32), max_size=3),
    seed=st.integers(0, 99),
)
def test_only_what_the_mask_has_is_drawn(
    allowed: set[int], penalty: float, bias: dict[int, float], **asked: Any
) -> None:
    """Whatever the temperature, the nucleus, the penalties and the bias; logits are left as they were."""
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[list(allowed)] = True
    sampler = Sampler(Sampling(frequency_penalty=penalty, logit_bias=bias, **asked))
    before = LOGITS.copy()
    for _ in range(5):
        assert sampler.draw(LOGITS, mask) in allowed
    assert np.array_equal(LOGITS, before)


def test_a_mask_that_has_everything_changes_no_draw() -> None:
    """Token by token the same as without one."""
    asked = Sampling(temperature=1.0, seed=4, top_k=20, top_p=0.9)
    free, masked = Sampler(asked), Sampler(asked)
    everything = np.ones(SIZE, dtype=np.bool_)
    assert [free.draw(LOGITS) for _ in range(50)] == [masked.draw(LOGITS, everything) for _ in range(50)]


def test_an_answer_does_not_end_before_it_has_the_tokens_it_must_have() -> None:
    """Unless its grammar leaves nothing else."""
    end = int(LOGITS.argmax())
    sampler = Sampler(Sampling(temperature=0.0, min_tokens=3), ends=(end,))
    assert [sampler.draw(LOGITS) == end for _ in range(5)] == [False, False, False, True, True]
    only_end = np.zeros(SIZE, dtype=np.bool_)
    only_end[end] = True
    assert Sampler(Sampling(temperature=0.0, min_tokens=3), ends=(end,)).draw(LOGITS, only_end) == end


def test_a_continuation_counts_what_was_drawn_before() -> None:
    """It may end when the whole answer has its tokens, and its random stream goes on where it was."""
    end = int(LOGITS.argmax())
    sampler = Sampler(Sampling(temperature=0.0, min_tokens=3), ends=(end,))
    sampler.skip(3)
    assert sampler.draw(LOGITS) == end


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_of_a_hundred_decides(temperature: float) -> None:
    """For a token or against it, as OpenAI says of its extremes."""
    likely, unlikely = int(LOGITS.argmax()), int(LOGITS.argmin())
    favoured = Sampler(Sampling(temperature=temperature, logit_bias={unlikely: 100.0}, seed=1))
    banned = Sampler(Sampling(temperature=temperature, logit_bias={likely: -100.0}, seed=1))
    assert {favoured.draw(LOGITS) for _ in range(20)} == {unlikely}
    assert likely not in {banned.draw(LOGITS) for _ in range(20)}
