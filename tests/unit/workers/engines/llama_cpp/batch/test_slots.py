"""Slots: which memory a prompt takes. Neighbours compute together, so runs of busy slots are kept few, and what is
worth keeping is moved rather than lost.
"""

import random

from workers.engines.llama_cpp.batch.slots import COPY_WORTH_TOKENS, Slots


def run(slots: Slots, prompt: list[int]) -> int:
    """Assign and take as the batching does; returns the slot."""
    assignment = slots.assign(prompt)
    assert assignment is not None
    if assignment.move_to is not None:
        slots.move(assignment.slot, assignment.move_to)
    slots.take(assignment, list(prompt))
    return assignment.slot


def runs(slots: Slots) -> int:
    busy = [slot.busy for slot in slots.all]
    return sum(here and not before for before, here in zip([False, *busy], busy, strict=False))


def fresh(rng: random.Random, length: int = 100) -> list[int]:
    return [rng.randrange(10**6) for _ in range(length)]


def test_running_sequences_stay_beside_one_another() -> None:
    """A gap that an ended sequence left is filled by the next one, whatever lies there."""
    rng, slots = random.Random(1), Slots(16)
    live = [run(slots, fresh(rng)) for _ in range(6)]
    for _ in range(200):
        slots.release(live.pop(rng.randrange(len(live))))
        live.append(run(slots, fresh(rng)))
        assert runs(slots) == 1


def test_what_lies_beside_the_running_ones_moves_over_the_oldest_memory() -> None:
    """The most recent conversation is still found after its place was taken; the oldest one is what is lost."""
    rng, slots = random.Random(2), Slots(4)
    prompts = [fresh(rng) for _ in range(4)]
    places = [run(slots, prompt) for prompt in prompts]
    slots.release(places[2])
    slots.release(places[1])
    slots.release(places[3])
    assignment = slots.assign(fresh(rng))
    assert assignment is not None
    assert (assignment.slot, assignment.move_to) == (places[1], places[2])
    slots.move(assignment.slot, assignment.move_to)
    held = [slot.tokens for slot in slots.all]
    assert held[places[2]] == prompts[1]
    assert prompts[2] not in held


def test_a_conversation_goes_on_where_it_was_when_that_costs_no_gap() -> None:
    """Nothing is copied when nothing else runs."""
    rng, slots = random.Random(3), Slots(8)
    first = fresh(rng)
    place = run(slots, first)
    slots.release(place)
    assignment = slots.assign([*first, 1, 2, 3])
    assert assignment is not None
    assert (assignment.slot, assignment.reused, assignment.copy_from) == (place, len(first), None)


def test_a_conversation_that_lies_apart_is_copied_beside_the_running_ones() -> None:
    """A copy costs less than a gap in every step that follows."""
    rng, slots = random.Random(4), Slots(8)
    prompts = [fresh(rng) for _ in range(6)]
    places = [run(slots, prompt) for prompt in prompts]
    for place in places[1:]:
        slots.release(place)
    assignment = slots.assign([*prompts[5], 7, 8])
    assert assignment is not None
    assert assignment.copy_from == places[5]
    assert assignment.slot == places[0] + 1
    assert assignment.reused == len(prompts[5])


def test_a_short_memory_is_not_worth_a_move() -> None:
    """Below the copy's worth it is computed again."""
    rng, slots = random.Random(5), Slots(3)
    places = [run(slots, fresh(rng, COPY_WORTH_TOKENS - 1)) for _ in range(3)]
    slots.release(places[2])
    slots.release(places[1])
    assignment = slots.assign(fresh(rng))
    assert assignment is not None
    assert (assignment.slot, assignment.move_to) == (places[1], None)


def test_none_when_every_slot_is_busy() -> None:
    """The prompt waits."""
    rng, slots = random.Random(6), Slots(2)
    for _ in range(2):
        run(slots, fresh(rng))
    assert slots.assign(fresh(rng)) is None
