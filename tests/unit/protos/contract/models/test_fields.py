"""A field is what it must be, or one line with its file and its name."""

from pathlib import Path

import pytest

from protos.contract.models.errors import BadModelFile
from protos.contract.models.fields import MAX_COUNT, MAX_LAYERS, Fields

FIELDS = Fields(
    Path("m.json"),
    {"n": 7, "whole": 7.0, "none": -1, "each": (1, 0, 2), "text": "x", "flag": True, "part": {"n": "7"}, "odd": 1.5},
)


def test_numbers_are_whole_and_never_negative() -> None:
    """Minus one is how some files say none; of one number for each layer the largest counts."""
    assert [FIELDS.count(key) for key in ("n", "whole", "none", "each", "missing")] == [7, 7, 0, 2, 0]
    assert FIELDS.count("missing", 3) == 3


def test_a_number_for_each_layer_may_be_one_for_all() -> None:
    """But a list has one entry for each."""
    assert FIELDS.each("each", 3) == [1, 0, 2]
    assert FIELDS.each("n", 3) == [7, 7, 7]
    assert FIELDS.each("missing", 2, default=5) == [5, 5]
    with pytest.raises(BadModelFile, match="must have an entry for each of 4 layers"):
        FIELDS.each("each", 4)


def test_texts_and_flags_of_another_kind_are_not_there() -> None:
    """Nothing is made of them."""
    assert (FIELDS.text("text"), FIELDS.text("n"), FIELDS.flag("flag", default=False)) == ("x", "", True)
    assert FIELDS.flag("n", default=True)


@pytest.mark.parametrize("value", [True, "7", 1.5, float("inf"), float("nan"), MAX_COUNT, -2, {}, [], [1, "2"]])
def test_what_is_no_count_is_refused(value: object) -> None:
    """Naming file, field and value."""
    with pytest.raises(BadModelFile, match=r"m\.json: field n must be a whole number, not .*; download"):
        Fields(Path("m.json"), {"n": value}).count("n")


def test_nobody_has_so_many_layers() -> None:
    """What is made for each layer stays small."""
    with pytest.raises(BadModelFile, match=f"field n must be at most {MAX_LAYERS}"):
        Fields(Path("m.json"), {"n": MAX_LAYERS + 1}).layers("n")


def test_parts_are_named_by_where_they_stand() -> None:
    """An object inside, or a list of them."""
    with pytest.raises(BadModelFile, match=r"field part\.n must be a whole number, not '7'"):
        FIELDS.part("part").count("n")
    with pytest.raises(BadModelFile, match="field n must be an object"):
        FIELDS.part("n")
    blocks = Fields(Path("m.json"), {"blocks": [{"n": 1}, {"n": "x"}]}).parts("blocks")
    assert blocks[0].count("n") == 1
    with pytest.raises(BadModelFile, match=r"field blocks\[1\]\.n must be"):
        blocks[1].count("n")
    assert (FIELDS.part("missing").names(), FIELDS.parts("missing")) == ((), [])
