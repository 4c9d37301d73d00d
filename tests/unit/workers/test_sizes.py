"""Rule: a size is what people mean by it, or one line that says how to write it."""

import pytest

from workers.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("8GiB", 2**33), ("8 gib", 2**33), ("8G", 2**33), ("500MB", 5 * 10**8), ("1.5T", 3 * 2**39)],
)
def test_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "0", "0GiB", "-1G", "8 gigs", "1e9", "8,5G", "G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 8GiB"):
        parse_size(text)
