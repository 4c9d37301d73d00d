"""Rule: a draft's memory always holds a prefix of what its target said and what it proposed itself; targets that say
anything get what the model would say, of the right epoch; room is bounded.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.drafts import DraftContext, DraftProposal
from workers.speculation.chain import Chain
from workers.speculation.draft_table import IDLE_S, DraftTable

NOBODY_ENDS: frozenset[int] = frozenset()


VOCABULARY = 20


def context(request: str, text: list[int], told: int, length: int = 3, **more: int) -> DraftContext:
    return DraftContext(
        request_id=request, epoch=more.pop("epoch", 1), position=len(text), token_ids=tuple(text[told:]),
        draft_length=length, **more,
    )  # fmt: skip


class Toy:
    """A model whose next token follows from the last two; its memory is checked at every step."""

    def __init__(self, slots: int, context_tokens: int = 1000, budget: int = 5) -> None:
        self.table = DraftTable(slots, context_tokens, VOCABULARY)
        self.memory: dict[int, list[int]] = {slot: [] for slot in range(slots)}
        self.budget = budget

    @staticmethod
    def next(text: list[int]) -> int:
        return (3 * text[-1] + (text[-2] if len(text) > 1 else 0)) % 11

    def step(self, now: float = 0.0, ends: frozenset[int] = NOBODY_ENDS) -> list[tuple[str, DraftProposal]]:
        for slot, length in self.table.cut:
            del self.memory[slot][length:]
        self.table.cut.clear()
        rows = self.table.plan(self.budget, now)
        assert sum(len(row.tokens) for row in rows) <= self.budget
        said = []
        for row in rows:
            held = self.memory[row.one.slot]
            assert len(held) == row.start, "computed on top of what is not there"
            held += row.tokens
            assert held == (row.one.text + row.one.chain)[: len(held)]
            if row.says:
                said.append(self.next(held))
        self.table.said(rows, said, 0.01, ends)
        return self.table.proposals()

    def run(self, now: float = 0.0, ends: frozenset[int] = NOBODY_ENDS) -> list[tuple[str, DraftProposal]]:
        sent = self.table.proposals()
        while self.table.busy:
            sent += self.step(now, ends)
        return sent

    def follow(self, text: list[int], count: int) -> tuple[int, ...]:
        text = list(text)
        for _ in range(count):
            text.append(self.next(text))
        return tuple(text[len(text) - count :])


def test_it_says_what_the_model_says() -> None:
    toy = Toy(2)
    assert not toy.table.tell("t", context("r", [1, 2, 3], 0), 0.0)
    ((target, got),) = toy.run()
    assert (target, got.epoch, got.position, got.token_ids) == ("t", 1, 3, toy.follow([1, 2, 3], 3))
    assert got.compute_s > 0.0


def test_it_goes_on_ahead_and_what_was_accepted_is_not_sent_again() -> None:
    toy, text = Toy(1), [1, 2, 3]
    toy.table.tell("t", context("r", text, 0, ahead=4), 0.0)
    sent = [got.token_ids for _, got in toy.run()]
    assert sum(sent, ()) == toy.follow(text, 7)
    assert sent[0] == toy.follow(text, 3), "what is waited for comes as soon as it is there"
    grown = text + list(toy.follow(text, 4))
    assert not toy.table.tell("t", context("r", grown, 3, ahead=0), 0.0)
    ((_, got),) = toy.run()
    assert (got.position, got.token_ids) == (len(text) + 7, ()), "all of it is there already: said at once"


def test_what_the_target_said_instead_is_taken_back() -> None:
    toy, text = Toy(1), [1, 2, 3]
    toy.table.tell("t", context("r", text, 0, ahead=4), 0.0)
    toy.run()
    other = [*text, toy.follow(text, 1)[0], 12]
    assert not toy.table.tell("t", context("r", other, 3, epoch=2), 0.0)
    ((_, got),) = toy.run()
    assert (got.epoch, got.position, got.token_ids) == (2, 5, toy.follow(other, 3))


def test_a_text_with_a_hole_is_refused_and_forgotten() -> None:
    toy = Toy(1)
    toy.table.tell("t", context("r", [1, 2, 3], 0), 0.0)
    assert "goes on at 5" in toy.table.tell("t", context("r", [1] * 7, 5), 0.0)
    assert len(toy.table) == 0
    assert not toy.table.tell("t", context("r", [1] * 7, 0), 0.0)


def test_a_token_that_the_model_does_not_have_is_refused_before_it_is_computed() -> None:
    """It would end the model's thread, and with it everybody's draft."""
    toy = Toy(1)
    for text in ([1, VOCABULARY], [2**32 - 1]):
        assert "vocabulary" in toy.table.tell("t", context("r", text, 0), 0.0)
    assert len(toy.table) == 0
    assert toy.run() == []


def test_room_is_bounded_and_goes_to_who_asks() -> None:
    toy = Toy(2)
    for name in "ab":
        assert not toy.table.tell("t", context(name, [1], 0), 0.0)
    assert "no room" in toy.table.tell("t", context("c", [1], 0), IDLE_S / 2)
    assert not toy.table.tell("t", context("c", [1], 0), 2 * IDLE_S), "a took no part for long"
    assert "ends at 0" in toy.table.tell("t", context("a", [1, 2], 1), 2 * IDLE_S)
    assert "longer than" in toy.table.tell("t", context("long", [1] * 999, 0), 2 * IDLE_S)
    toy.table.gone("t")
    assert len(toy.table) == 0


def test_who_is_waited_for_comes_first_and_a_long_text_holds_nobody_up() -> None:
    toy = Toy(2, budget=4)
    toy.table.tell("t", context("long", [5] * 100, 0), 0.0)
    toy.table.tell("u", context("short", [1], 0), 0.0)
    told = [target for _ in range(3) for target, _ in toy.step()]
    assert told == ["u"]


def test_it_says_while_a_long_text_is_still_to_be_read() -> None:
    """Whoever computes beside others gives way meanwhile."""
    toy = Toy(1, budget=10)
    toy.table.tell("t", context("r", [5] * 40, 0), 0.0)
    reading = []
    while toy.table.busy:
        reading.append(toy.table.reads)
        toy.step()
    assert reading[:2] == [True, True]
    assert not any(reading[3:])


def test_after_its_deadline_nothing_is_computed() -> None:
    toy = Toy(1)
    toy.table.tell("t", DraftContext(request_id="r", epoch=1, position=1, token_ids=(1,), draft_length=3,
                                     deadline_s=0.5), 0.0)  # fmt: skip
    assert toy.run(now=1.0) == []


def test_the_end_of_an_answer_ends_the_proposal() -> None:
    toy = Toy(1)
    toy.table.tell("t", context("r", [1, 2, 3], 0, length=5, ahead=5), 0.0)
    second = toy.follow([1, 2, 3], 2)[1]
    got = [got.token_ids for _, got in toy.run(ends=frozenset({second}))]
    assert sum(got, ()) == toy.follow([1, 2, 3], 2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_targets_and_draft_stay_in_step_whatever_is_said(data: st.DataObject) -> None:
    """Messages cross on their way; targets accept some and say something else now and then."""
    toy = Toy(3, budget=data.draw(st.integers(1, 8)))
    texts = {("t", "a"): [1, 2], ("t", "b"): [3], ("u", "a"): [4, 5, 6]}
    chains = {key: Chain() for key in texts}
    under_way: list[tuple[str, DraftProposal]] = []
    for _ in range(data.draw(st.integers(1, 25))):
        key = data.draw(st.sampled_from(sorted(texts)))
        text, chain = texts[key], chains[key]
        match data.draw(st.sampled_from(["ask", "step", "arrive"])):
            case "ask":
                for _ in range(data.draw(st.integers(0, 3))):
                    text.append(data.draw(st.sampled_from([toy.next(text), toy.next(text), 12])))
                told = chain.told
                chain.follow(text)
                asked = context(key[1], text, told, data.draw(st.integers(1, 4)), epoch=chain.epoch,
                                ahead=data.draw(st.integers(0, 4)))  # fmt: skip
                assert not toy.table.tell(key[0], asked, 0.0)
                under_way += toy.table.proposals()
            case "step":
                under_way += toy.step()
            case "arrive" if under_way:
                target, got = under_way.pop(0)
                if chains[target, got.request_id].arrived(got.epoch, got.position, got.token_ids):
                    here = texts[target, got.request_id]
                    hand = chains[target, got.request_id].hand
                    assert tuple(hand) == toy.follow(here, len(hand))
