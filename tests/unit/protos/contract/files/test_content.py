"""What a model is by its content, and what is not believed of one."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.contract.files.content import BadContent, FilePart, ModelContent, check_content, check_name, content_of


def part(name: str, text: str = "") -> FilePart:
    return FilePart(name=name, size_bytes=len(text), sha256=hashlib.sha256((text or name).encode()).hexdigest())


def test_a_model_of_one_file_has_the_hash_that_sha256sum_prints() -> None:
    """So that an operator can compare it with what a download page says."""
    one = part("a.gguf", "weights")
    assert content_of([one]).sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_split_model_is_the_same_whatever_its_files_are_called() -> None:
    """Their numbers tell them apart; swapped parts are another model."""
    here = [part("a-00001-of-00002.gguf", "one"), part("a-00002-of-00002.gguf", "two")]
    there = [replace(here[1], name="b-q8_0-00002-of-00002.gguf"), replace(here[0], name="b-q8_0-00001-of-00002.gguf")]
    swapped = [replace(here[0], sha256=here[1].sha256), replace(here[1], sha256=here[0].sha256)]
    assert content_of(here).sha256 == content_of(there).sha256
    assert content_of(here).sha256 != content_of(swapped).sha256


def test_in_a_folder_names_count() -> None:
    """The same bytes as config.json and as tokenizer.json are two models."""
    config, tokenizer = part("config.json", "a"), part("tokenizer.json", "b")
    other = [replace(config, sha256=tokenizer.sha256), replace(tokenizer, sha256=config.sha256)]
    assert content_of([config, tokenizer]).sha256 != content_of(other).sha256


@given(order=st.permutations(range(4)))
def test_the_order_in_which_files_are_found_does_not_matter(order: list[int]) -> None:
    """Folders are listed in any order."""
    parts = [part(name) for name in ("config.json", "tokenizer.json", "a.safetensors", "b.safetensors")]
    assert content_of([parts[place] for place in order]) == content_of(parts)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "a.gguf.part", "C:a", "a\nb", "a\0b", "x" * 201, "é" * 101, "a?"],
)
def test_a_name_that_leads_elsewhere_or_hides_is_refused(name: str) -> None:
    """Whoever sends a list of files must not choose where they are written."""
    with pytest.raises(BadContent):
        check_name(name)
    with pytest.raises(BadContent):
        check_content(content_of([part(name, "weights")]))


@pytest.mark.parametrize("name", ["a.gguf", "Modell - Größe (1).gguf", "config.json", "a-00001-of-00002.gguf"])
def test_an_honest_name_passes(name: str) -> None:
    """Spaces and letters of any language too."""
    check_content(content_of([part(name)]))


@pytest.mark.parametrize(
    "content",
    [
        ModelContent(sha256="ab" * 31),
        ModelContent(sha256="AB" * 32),
        ModelContent(sha256="ab" * 32, parts=(part("a.gguf"),)),
        replace(content_of([part("a.gguf")]), parts=(part("b.gguf", "other"),)),
        content_of([part("a.json"), part("A.json")]),
        content_of([replace(part("a.json"), size_bytes=-1)]),
        content_of([replace(part("a.json"), sha256="x")]),
        content_of([part(f"{number}.json") for number in range(1025)]),
    ],
)
def test_what_does_not_hold_together_is_refused(content: ModelContent) -> None:
    """In one line."""
    with pytest.raises(BadContent) as refused:
        check_content(content)
    assert "\n" not in str(refused.value)
