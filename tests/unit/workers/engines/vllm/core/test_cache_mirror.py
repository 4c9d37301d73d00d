"""Text blocks follow the token blocks they end in."""

from hypothesis import given
from hypothesis import strategies as st

from workers.engines.vllm.core.cache_mirror import CacheMirror, chain

BLOCK, TEXT_BLOCK = 4, 16


def prompt_of(mirror: CacheMirror, tokens: list[int]) -> tuple[int, ...]:
    """Four bytes a token, so that each token block carries exactly one text block."""
    hashes = tuple(hash(tuple(tokens[: 4 * (n + 1)])) for n in range(len(tokens) // 4))
    mirror.prompt(tokens, hashes, 4 * len(tokens), TEXT_BLOCK)
    return hashes


def test_a_text_block_is_resident_while_its_token_block_is() -> None:
    """Stored in a chain, removed one by one."""
    mirror = CacheMirror(BLOCK)
    tokens = list(range(14))
    first, second, third = prompt_of(mirror, tokens)
    mirror.stored(["A", "B"], None, tokens[:8])
    assert mirror.take() == ((first, second), ())
    mirror.stored(["C"], "B", tokens[8:12])
    assert mirror.take() == ((third,), ())
    mirror.removed(["C", "unknown"])
    assert mirror.take() == ((), (third,))
    mirror.cleared()
    assert set(mirror.take()[1]) == {first, second}


def test_a_prompt_that_comes_after_its_blocks_finds_them() -> None:
    """Another request with the same beginning stored them."""
    mirror = CacheMirror(BLOCK)
    tokens = list(range(8))
    mirror.stored(["A", "B"], None, tokens)
    assert mirror.take() == ((), ())
    assert mirror.take() == ((), ())
    hashes = prompt_of(mirror, tokens)
    assert mirror.take() == (hashes, ())


def test_the_same_tokens_behind_another_beginning_are_another_block() -> None:
    """A digest covers all before it."""
    assert chain([1, 2, 3, 4, 9, 9, 9, 9], 4)[1] != chain([5, 6, 7, 8, 9, 9, 9, 9], 4)[1]
    assert chain([9, 9, 9, 9], 4, chain([1, 2, 3, 4], 4)[0]) == chain([1, 2, 3, 4, 9, 9, 9, 9], 4)[1:]


@given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=24), max_size=12), st.randoms())
def test_what_is_told_agrees_with_what_is_held(prompts: list[list[int]], dice: object) -> None:
    """A block is told stored and evicted in turns; at the end exactly the resident ones stand."""
    mirror = CacheMirror(BLOCK)
    held: set[int] = set()
    names: dict[tuple[int, ...], str] = {}

    def hear() -> None:
        stored, evicted = mirror.take()
        for block in stored:
            assert block not in held
            held.add(block)
        for block in evicted:
            assert block in held
            held.remove(block)

    for tokens in prompts:
        prompt_of(mirror, tokens)
        for end in range(BLOCK, len(tokens) + 1, BLOCK):
            key = tuple(tokens[:end])
            if key not in names:
                names[key] = f"block {len(names)}"
                parent = names.get(tuple(tokens[: end - BLOCK]))
                mirror.stored([names[key]], parent, tokens[end - BLOCK : end])
        hear()
    for key in list(names):
        if dice.random() < 0.5:  # type: ignore[attr-defined]
            mirror.removed([names.pop(key)])
            hear()
    assert held == {hash(key) for key in names}
