"""Tenants learn nothing of each other's prompts from what is cached: not from hashes, not from a slot's memory."""

import random

from hypothesis import given
from hypothesis import strategies as st

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, Job
from router.domain.principal import LOCAL
from router.scheduling.placement.text_blocks import BLOCK_BYTES, hash_chain, serialise
from router.state.api_keys import KeyRules, new_key, principal_of
from workers.engines.llama_cpp.batch.slots import Slots, common_prefix
from workers.engines.openai_compatible.requests import Flavor, request_of


def salt_of(name: str, group: str = "") -> str:
    return principal_of(new_key(KeyRules(name=name, cache_group=group), key_id="k", now=0.0)[1]).cache_salt


@given(one=st.text(min_size=1, max_size=20), other=st.text(min_size=1, max_size=20), group=st.text(max_size=20))
def test_callers_share_caches_within_a_tenant_or_a_named_group_and_nowhere_else(
    one: str, other: str, group: str
) -> None:
    """A group is no tenant's name: nobody gets into a tenant's caches by calling a group so."""
    assert salt_of(one) == salt_of(one)
    assert (salt_of(one) == salt_of(other)) == (one == other)
    if group:
        assert salt_of(one, group) == salt_of(other, group)
        assert salt_of(one, group) not in {salt_of(one), salt_of(other), salt_of(group)}
    assert LOCAL.cache_salt == ""


@given(
    text=st.text(min_size=1, max_size=4000), salts=st.lists(st.text(max_size=8), min_size=2, max_size=2, unique=True)
)
def test_the_same_prompt_has_other_hashes_under_another_salt(text: str, salts: list[str]) -> None:
    """And the same under the same: affinity within a tenant stays."""
    data = serialise((ChatMessage(role="user", content=text),))
    first, second = (hash_chain(data, salt) for salt in salts)
    assert first == hash_chain(data, salts[0])
    assert len(first) == len(second) == len(data) // BLOCK_BYTES
    assert not set(first) & set(second)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 5), steps=st.integers(1, 60))
def test_no_memory_of_another_salt_is_ever_used_again(seed: int, count: int, steps: int) -> None:
    """However slots are taken, copied, moved and given back."""
    rng = random.Random(seed)
    slots = Slots(count)
    held: dict[int, tuple[str, list[int]]] = {}  # what is really in each slot's memory, by who computed it
    prompts = [[rng.randrange(3) for _ in range(200)] for _ in range(2)]
    busy: list[int] = []
    for _ in range(steps):
        if busy and rng.random() < 0.5:
            slots.release(busy.pop(rng.randrange(len(busy))))
            continue
        salt, prompt = rng.choice(["", "a", "b"]), list(rng.choice(prompts))
        assignment = slots.assign(prompt, salt)
        if assignment is None:
            continue
        if assignment.move_to is not None and assignment.slot in held:
            held[assignment.move_to] = held[assignment.slot]
            slots.move(assignment.slot, assignment.move_to)
        source = assignment.slot if assignment.copy_from is None else assignment.copy_from
        if assignment.reused:
            computed_by, tokens = held[source]
            assert computed_by == salt
            assert common_prefix(tokens, prompt) >= assignment.reused
        slots.take(assignment, prompt, salt)
        held[assignment.slot] = (salt, prompt)
        busy.append(assignment.slot)


def test_a_server_that_knows_salts_is_told() -> None:
    """vLLM's own field; others would refuse what they do not know."""
    job = Job(request_id=RequestId("r"), attempt=1, model="m", quantization="", prompt="hi", cache_salt="s")
    for flavor in Flavor:
        _, body = request_of(job, model="m", flavor=flavor, room_tokens=10)
        assert ("cache_salt" in body) == (flavor is Flavor.VLLM)
