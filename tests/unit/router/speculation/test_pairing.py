"""Rule: targets get the nearest draft of their tokenizer that has room; pairs stand until something is much better or
broken; who goes without knows why.
"""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import WorkerId
from router.speculation.pairing import (
    SETTLED_S,
    SLOTS_SHARED,
    Draft,
    Held,
    Known,
    Pair,
    Paired,
    Target,
    TargetKey,
    pair,
)


def target(name: str, **changes: object) -> Target:
    facts = {
        "worker_id": WorkerId(name), "key": ("m", "q8_0"), "tokenizer": "f", "weights_bytes": 8_000, "slots": 4,
        "rtt_s": 0.001,
    }  # fmt: skip
    return Target(**{**facts, **changes})  # type: ignore[arg-type]


def draft(name: str, **changes: object) -> Draft:
    facts = {
        "worker_id": WorkerId(name), "node": name, "key": ("s", "q4_0"), "tokenizer": "f", "address": f"{name}:1",
        "weights_bytes": 1_000, "slots": 8, "rtt_s": 0.001, "token_s": 0.001, "running": 0,
    }  # fmt: skip
    return Draft(**{**facts, **changes})  # type: ignore[arg-type]


def paired(
    targets: list[Target], drafts: list[Draft], standing: Paired | None = None, known: Known | None = None,
    now: float = 0.0,
) -> Paired:  # fmt: skip
    return pair(targets, drafts, standing.pairs if standing else {}, known or Known(), now)


def of(result: Paired) -> dict[str, str]:
    return {key[0]: one.draft_id for key, one in result.pairs.items()}


def reason(result: Paired, name: str = "t") -> str:
    return next(why for key, why in result.without.items() if key[0] == name)


def test_the_nearest_is_chosen_by_what_was_measured_where_they_met() -> None:
    """Before that by way of the router."""
    near, far = draft("near", rtt_s=0.001), draft("far", rtt_s=0.050)
    assert of(paired([target("t")], [far, near])) == {"t": "near"}
    met = Known(rtts={(WorkerId("t"), WorkerId("near")): 0.2, (WorkerId("t"), WorkerId("far")): 0.001})
    assert of(paired([target("t")], [far, near], known=met)) == {"t": "far"}


def test_the_idle_one_is_chosen_of_two_alike() -> None:
    assert of(paired([target("t")], [draft("a", running=8), draft("b")])) == {"t": "b"}


def test_who_goes_without_knows_why() -> None:
    """The reason of the draft that came nearest."""
    assert reason(paired([target("t")], [])) == "no draft worker is ready"
    other = draft("d", tokenizer="g")
    assert reason(paired([target("t")], [other])) == "no draft has its tokenizer"
    assert "no smaller" in reason(paired([target("t")], [other, draft("e", weights_bytes=8_000)]))
    held = Known(held={(WorkerId("t"), WorkerId("d")): Held(until=5.0, reason="not reached")})
    alone = paired([target("t")], [draft("d")], known=held)
    assert reason(alone) == "d: not reached"
    assert alone.idle == {"d": "not reached"}
    assert of(paired([target("t")], [draft("d")], known=held, now=5.0)) == {"t": "d"}
    assert paired([target("t")], [other]).idle == {"d": "no worker that takes drafts has its tokenizer"}


def test_without_a_fingerprint_nothing_is_paired() -> None:
    """Two that do not know their tokenizer are not alike."""
    assert not paired([target("t", tokenizer="")], [draft("d", tokenizer="")]).pairs


def test_a_draft_has_room_for_so_many_sequences_and_the_largest_model_comes_first() -> None:
    """But who has it keeps it."""
    targets = [target(f"t{number}", weights_bytes=8_000 + number) for number in range(6)]
    first = paired(targets, [draft("d", slots=8)])
    assert sorted(of(first)) == ["t2", "t3", "t4", "t5"]
    assert "as many as it can hold" in reason(first, "t0")
    larger = [*targets, target("huge", weights_bytes=10**6)]
    assert of(paired(larger, [draft("d", slots=8)], first)) == of(first)


def test_a_target_that_alone_is_too_much_for_a_draft_may_have_all_of_it() -> None:
    assert of(paired([target("t", slots=64)], [draft("d", slots=8)])) == {"t": "d"}


def test_a_pair_stands_until_another_is_much_faster_and_some_time_has_passed() -> None:
    slow = draft("slow", token_s=0.004)
    first = paired([target("t")], [slow], now=0.0)
    little, much = draft("little", token_s=0.003), draft("much", token_s=0.0001)
    assert of(paired([target("t")], [slow, little], first, now=10 * SETTLED_S)) == {"t": "slow"}
    assert of(paired([target("t")], [slow, much], first, now=SETTLED_S / 2)) == {"t": "slow"}
    assert of(paired([target("t")], [slow, much], first, now=SETTLED_S)) == {"t": "much"}


def test_a_standing_pair_keeps_its_time_and_follows_the_address() -> None:
    first = paired([target("t")], [draft("d")], now=1.0)
    moved = paired([target("t")], [replace(draft("d"), address="d:2")], first, now=9.0)
    assert list(moved.pairs.values()) == [
        Pair(draft_id=WorkerId("d"), draft_key=("s", "q4_0"), address="d:2", since=1.0)
    ]  # fmt: skip


names = st.sampled_from("abcdef")


@given(
    st.lists(st.builds(target, names, slots=st.integers(1, 20), tokenizer=st.sampled_from(["f", "g", ""])),
             unique_by=lambda one: one.worker_id),
    st.lists(st.builds(draft, names, slots=st.integers(1, 20), tokenizer=st.sampled_from(["f", "g", ""]),
                       rtt_s=st.floats(0, 0.1)), unique_by=lambda one: one.worker_id),
)  # fmt: skip
def test_every_target_is_paired_or_knows_why_and_a_second_look_changes_nothing(
    targets: list[Target], drafts: list[Draft]
) -> None:
    """No draft is given more than it holds, but for one target alone."""
    first = paired(targets, drafts)
    keys: set[TargetKey] = {(one.worker_id, one.key) for one in targets}
    assert set(first.pairs) | set(first.without) == keys
    assert not set(first.pairs) & set(first.without)
    assert {one.draft_id for one in first.pairs.values()} | set(first.idle) == {one.worker_id for one in drafts}
    slots = {one.worker_id: one.slots for one in targets}
    for one in drafts:
        held = [slots[key[0]] for key, found in first.pairs.items() if found.draft_id == one.worker_id]
        assert sum(held) <= SLOTS_SHARED * one.slots or len(held) == 1
    assert paired(targets, drafts, first, now=10 * SETTLED_S).pairs == first.pairs
