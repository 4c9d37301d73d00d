"""Rule: a draft model is asked where that makes tokens faster than the text's own proposals do, and looked at now and
then where it does not.
"""

from collections.abc import Sequence

import pytest

from workers.speculation.draft_use import LOOK_EVERY, PROBE_EVERY_S, PROBE_SHARE, DraftUse
from workers.speculation.drafter import Ask, Costs
from workers.speculation.speculator import Speculation, Speculator

FLAT = [(1, 0.010), (64, 0.011)]
STEEP = [(1, 0.010), (64, 0.640)]


class Drafter:
    """Counts on by one; says what it is asked."""

    name = "counter"

    def __init__(self, costs: Costs, chance: float = 0.9, *, has_read: bool = True) -> None:
        self.costs = costs
        self.chance = chance
        self.has_read = has_read
        self.asked: list[tuple[str, int, bool]] = []
        self.in_hand = 0

    def answered(self, key: str) -> bool:
        return self.has_read

    def chances(self, key: str, length: int) -> tuple[float, ...]:
        return (self.chance,) * length

    def ready(self, key: str, tokens: Sequence[int]) -> int:
        return self.in_hand

    def propose(self, asks: Sequence[Ask], wait_s: float) -> list[tuple[int, ...]]:
        self.asked += [(ask.key, ask.length, wait_s > 0.0) for ask in asks]
        return [tuple(range(ask.tokens[-1] + 1, ask.tokens[-1] + 1 + ask.length)) for ask in asks]

    def end(self, key: str) -> None:
        self.asked.append((key, 0, False))

    def close(self) -> None: ...


class Now:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def speculator(drafter: Drafter, curve: list[tuple[int, float]], fixed: int = 0) -> tuple[Speculator, Now]:
    now = Now()
    made = Speculator(measured=curve)
    made.drafts = DraftUse(drafter, fixed, now, now)
    return made, now


def step(made: Speculator, running: list[Speculation | None], limit: int = 8) -> None:
    made.allot(running, [limit] * len(running), plain_rows=len(running), most_rows=64)


def test_it_is_asked_and_waited_for_where_that_pays() -> None:
    drafter = Drafter(Costs(token_s=0.0005, wait_s=0.001))
    made, _ = speculator(drafter, FLAT)
    one = made.begin([7, 1], "", "a")
    step(made, [one])
    ((key, length, waited),) = drafter.asked
    assert (key, waited) == ("a", True)
    assert one.draft == tuple(range(2, 2 + length))
    assert one.drafted
    made.accepted(length, drafted=True)
    made.observe(1 + length, 0.011)
    assert made.drafts is not None
    assert (made.drafts.rounds, made.drafts.proposed, made.drafts.accepted) == (1, length, length)
    assert made.drafts.measured_gain > 2.0
    one.judge(range(2, 3 + length))
    assert not one.drafted
    made.end("", [], "a")
    assert drafter.asked[-1] == ("a", 0, False)


def test_where_a_round_takes_longer_than_it_saves_it_is_not_waited_for() -> None:
    """A question now and then, that nobody waits for; more often where it costs nothing."""
    drafter = Drafter(Costs(token_s=0.001, wait_s=0.200))
    made, now = speculator(drafter, FLAT)
    one = made.begin([7, 1], "", "a")
    for _ in range(40 * LOOK_EVERY):
        step(made, [one])
        now.at += 0.010
        assert not one.draft
    assert {waited for _, _, waited in drafter.asked} == {False}
    spent = 40 * LOOK_EVERY * 0.010
    assert 1 <= len(drafter.asked) <= spent / PROBE_EVERY_S + 1


def test_what_is_in_hand_needs_no_waiting_and_is_verified() -> None:
    drafter = Drafter(Costs(token_s=0.001, wait_s=0.200))
    drafter.in_hand = 3
    made, _ = speculator(drafter, FLAT)
    one = made.begin([7, 1], "", "a")
    step(made, [one])
    assert one.draft == (2, 3, 4)


def test_where_verifying_is_dear_nobody_is_asked() -> None:
    drafter = Drafter(Costs(token_s=0.0001, wait_s=0.0))
    made, _ = speculator(drafter, STEEP)
    one = made.begin([7, 1], "", "a")
    step(made, [one])
    assert not one.draft


def test_a_text_that_repeats_itself_proposes_by_itself_where_the_draft_is_far() -> None:
    """A draft that could not pay never stands in the way of what costs nothing."""
    drafter = Drafter(Costs(token_s=0.005, wait_s=0.500), chance=0.99)
    made, _ = speculator(drafter, FLAT)
    text = [1, 2, 3, 4, 5, 6, 7, 8] * 6
    one = made.begin(text, "", "a")
    step(made, [one])
    assert one.draft
    assert not one.drafted


def test_who_is_new_is_read_without_being_waited_for_and_only_where_it_would_pay() -> None:
    for wait_s, read in ((0.001, True), (0.500, False)):
        drafter = Drafter(Costs(token_s=0.0005, wait_s=wait_s), has_read=False)
        made, now = speculator(drafter, FLAT)
        assert made.drafts is not None
        now.at = 10.0
        made.drafts.probe([])
        one = made.begin([7, 1], "", "a")
        step(made, [one])
        assert not one.draft
        assert bool(drafter.asked) is read
        assert not any(waited for _, _, waited in drafter.asked)


def test_one_that_is_paused_is_not_waited_for() -> None:
    drafter = Drafter(Costs(token_s=0.0005, wait_s=0.001, paused="late 3 times in a row"))
    drafter.in_hand = 3
    made, _ = speculator(drafter, FLAT)
    one = made.begin([7, 1], "", "a")
    step(made, [one])
    assert not one.draft


def test_a_fixed_length_is_asked_for_whether_it_pays_or_not() -> None:
    drafter = Drafter(Costs(token_s=0.5, wait_s=0.5))
    made, _ = speculator(drafter, STEEP, fixed=3)
    one = made.begin([7, 1], "", "a")
    step(made, [one])
    assert one.draft == (2, 3, 4)


def test_what_a_question_took_is_told_of_its_own_step_alone() -> None:
    """The target takes it off what its step cost."""

    class Slow(Drafter):
        def propose(self, asks: Sequence[Ask], wait_s: float) -> list[tuple[int, ...]]:
            now.at += 0.25
            return [() for _ in asks]

    made, now = speculator(Slow(Costs()), FLAT)
    one = made.begin([7, 1], "", "a")
    drafts = made.drafts
    assert drafts is not None
    spent = []
    for _ in range(LOOK_EVERY + 2):
        step(made, [one])
        spent.append(drafts.spent_s)
    assert spent.count(0.25) == 1
    assert sum(spent) == 0.25


@pytest.mark.parametrize("reads_s", [0.02, 0.5, 3.0])
def test_probes_in_the_targets_thread_take_a_hundredth_of_what_it_computes(reads_s: float) -> None:
    """However long the prompts are that have to be read for them, and however long it had nothing to do."""
    computed, now = Now(), Now()

    class Slow(Drafter):
        def propose(self, asks: Sequence[Ask], wait_s: float) -> list[tuple[int, ...]]:
            computed.at += reads_s
            now.at += reads_s
            return [() for _ in asks]

    made = Speculator(measured=STEEP)
    made.drafts = DraftUse(Slow(Costs(token_s=0.006), chance=0.5), 0, computed, now)
    one = made.begin([7, 1], "", "a")
    probed_s = 0.0
    for _ in range(8_000):
        step(made, [one])
        probed_s += made.drafts.spent_s
        computed.at += 0.1
        now.at += 0.5  # the rest of it idle
    assert probed_s > 0.0
    assert probed_s <= 1.5 * PROBE_SHARE * 8_000 * 0.1


def test_a_paused_draft_elsewhere_is_looked_for_though_the_target_hardly_computes() -> None:
    """A probe that nobody waits for takes none of its time."""
    computed, now = Now(), Now()
    drafter = Drafter(Costs(token_s=0.5, wait_s=0.001, paused="late 3 times in a row"))
    made = Speculator(measured=FLAT)
    made.drafts = DraftUse(drafter, 0, computed, now)
    one = made.begin([7, 1], "", "a")
    for _ in range(LOOK_EVERY * 20):
        step(made, [one])
        now.at += 1.0
    assert drafter.asked
