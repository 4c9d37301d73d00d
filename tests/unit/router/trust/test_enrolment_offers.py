"""What a joining machine is offered: what the pool wants and this machine does well."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.codec.enrolment import ENROL_REQUEST, decode_enrol_request
from protos.contract.joining.enrolment import EnrolRequest, ModelOffer
from protos.contract.worker import Hardware, InstanceState, Load, ModelInstance, Profile
from router.capacity.recommendations import MAX_RECOMMENDATIONS
from router.domain.snapshot import FleetSnapshot
from router.domain.worker import WorkerState
from router.trust.enrolment_offers import PoolOffers, wanted_of
from tests.support.fleets import instance, snapshot, worker

GIB = 2**30
LLAMA = {"parameters": 8_030_261_248, "layers": 32, "kv_heads": 8, "head_dim_k": 128, "head_dim_v": 128}
LARGE = {"parameters": 70_553_706_496, "layers": 80, "kv_heads": 8, "head_dim_k": 128, "head_dim_v": 128}


def pool(*, busy_8b: int = 1, busy_70b: int = 1) -> FleetSnapshot:
    """Two 8B workers and one of a 70B, with so many requests on each."""
    small = instance("q8_0", model="llama-3.1-8b", **LLAMA)
    large = instance("awq", model="llama-3.3-70b", **LARGE)
    return snapshot(
        worker("a", small, load=Load(running=busy_8b)),
        worker("b", small, load=Load(running=busy_8b)),
        worker("c", large, load=Load(running=busy_70b)),
    )


def mac(memory: int = 128, working_set: float = 107.5, engine: str = "llama.cpp", **hardware: Any) -> Profile:
    """A joining Mac's profile."""
    facts: dict[str, Any] = {
        "kind": "apple", "name": "Apple M4 Max", "count": 1, "cores": 40, "memory_bytes": memory * GIB,
        "usable_memory_bytes": round(working_set * GIB), "details": {"gpu_cores": "40"},
    }  # fmt: skip
    return Profile(node="mac", engine=engine, hardware=Hardware(**{**facts, **hardware}))


def offered(fleet: FleetSnapshot, profile: Profile) -> list[ModelOffer]:
    """What the pool offers it."""
    return list(PoolOffers(lambda: fleet)(profile))


def test_the_busier_model_comes_first_when_both_fit() -> None:
    """Requests for each slot decide; every offer says why, and what is expected."""
    assert offered(pool(busy_8b=8), mac())[0].model == "llama-3.1-8b"
    first = offered(pool(busy_70b=8), mac())[0]
    assert (first.model, first.quantization) == ("llama-3.3-70b", "q4_k_m")
    assert "8 requests on 8 slots of 1 worker" in first.reason
    assert 10 < first.tokens_per_s < 15
    assert first.prefill_tokens_per_s > 0
    assert 40e9 < first.memory_bytes < 60e9


def test_what_does_not_fit_is_not_offered() -> None:
    """However much it is wanted."""
    found = offered(pool(busy_70b=100), mac(16, 10.67))
    assert {one.model for one in found} == {"llama-3.1-8b"}
    assert all(one.memory_bytes <= 10.67 * GIB for one in found)


def test_what_would_crawl_comes_last() -> None:
    """A 70B on a slow machine after an 8B that pleases, even when the 70B is wanted more."""
    slow = mac(128, 107.5, name="Apple M3 Pro", cores=18, details={"gpu_cores": "18"})
    found = offered(pool(busy_70b=8), slow)
    assert found[0].model == "llama-3.1-8b"
    assert "llama-3.3-70b" in {one.model for one in found}


def test_a_gpu_node_with_vllm_is_offered_what_vllm_serves() -> None:
    """AWQ, FP8 or full precision, never GGUF; llama.cpp on the same card only GGUF and full precision."""
    card = {"kind": "nvidia", "name": "NVIDIA H100 80GB HBM3", "cores": 132, "details": {}}
    for engine, formats in (("vllm", {"awq", "fp8", "fp16", "gptq", "gptq-int8", "nf4"}), ("llama.cpp", None)):
        found = offered(pool(), mac(80, 79.0, engine=engine, **card))
        named = {one.quantization for one in found}
        assert named
        assert named <= formats if formats else named <= {"fp16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k"}


def test_nobody_is_asked_to_serve_worse_than_their_best_unless_the_pool_does() -> None:
    """Below the recommended format only what is served already."""
    found = offered(pool(), mac())
    assert found[0].quantization == "q8_0"
    assert {one.quantization for one in found if one.model == "llama-3.1-8b"} == {"q8_0", "fp16"}


def test_remote_and_simulated_engines_and_empty_pools_get_none() -> None:
    """Their models are not ours to choose, or nothing is wanted yet."""
    assert offered(pool(), mac(engine="openai")) == []
    assert offered(pool(), mac(engine="simulated")) == []
    assert offered(snapshot(), mac()) == []


def test_a_model_whose_workers_went_to_sleep_is_wanted_most() -> None:
    """Nobody serves it now; a model that failed to load everywhere is not known to work, and not offered."""
    fleet = pool()
    asleep = replace(fleet.workers[2], state=WorkerState.ASLEEP)
    fleet = replace(fleet, workers=(*fleet.workers[:2], asleep))
    assert offered(fleet, mac())[0].model == "llama-3.3-70b"
    assert "nobody serves it now" in offered(fleet, mac())[0].reason
    failed = worker("f", instance(model="broken", state=InstanceState.FAILED, **LLAMA))
    assert [one.model for one in wanted_of(snapshot(failed))] == []


def test_offers_are_bounded() -> None:
    """However many models a pool holds."""
    many = [worker(f"w{n}", instance("q4_k_m", model=f"m{n}", **LLAMA)) for n in range(100)]
    assert len(offered(snapshot(*many), mac())) == MAX_RECOMMENDATIONS


def test_a_model_known_by_name_alone_is_offered_too() -> None:
    """A server that does not say its layers; one whose name says nothing either is left out."""
    named = worker("r", instance("fp16", model="llama-3.1-8b", parameters=0))
    unknown = worker("u", instance("fp16", model="house-blend", parameters=0))
    assert {one.model for one in offered(snapshot(named, unknown), mac())} == {"llama-3.1-8b"}


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    kind=st.sampled_from(["apple", "nvidia", "amd", "cpu", "simulated", "", "abacus"]),
    name=st.one_of(st.sampled_from(["Apple M4 Max", "NVIDIA H100 80GB HBM3", "x" * 5000]), st.text(max_size=50)),
    count=st.integers(0, 2**32 - 1),
    memory=st.integers(0, 2**64 - 1),
    usable=st.integers(0, 2**64 - 1),
    bandwidth=st.floats(),
    engine=st.sampled_from(["llama.cpp", "vllm", "transformers", "openai", ""]),
)
def test_no_profile_however_absurd_breaks_an_enrolment(
    kind: str, name: str, count: int, memory: int, usable: int, bandwidth: float, engine: str
) -> None:
    """A hostile machine is offered little or nothing; figures stay finite."""
    hardware = Hardware(
        kind=kind, name=name, count=count, memory_bytes=memory, usable_memory_bytes=usable,
        bandwidth_bytes_per_s=bandwidth,
    )  # fmt: skip
    for one in offered(pool(), Profile(node="mac", engine=engine, hardware=hardware)):
        assert 0 < one.tokens_per_s < 1e9
        assert 0 < one.prefill_tokens_per_s < 1e12


def own_file(model: str, quantization: str, **facts: Any) -> ModelInstance:
    """As the header of a file on the joining machine tells."""
    facts = {**LLAMA, "active_parameters": facts.get("parameters", LLAMA["parameters"]), **facts}
    return ModelInstance(model=model, quantization=quantization, context_tokens=8192, **facts)


def told(files: list[ModelInstance]) -> tuple[ModelInstance, ...]:
    """What the router reads of them."""
    return decode_enrol_request(ENROL_REQUEST.encode(EnrolRequest(profile=mac(), files=tuple(files)))).files


def test_what_the_machine_has_is_judged_too_after_what_the_pool_wants() -> None:
    """Its owner may serve a file nobody asked for; what is then expected of it is told as for any other."""
    mine = own_file("my-finetune", "q5_k_m", weights_bytes=5_730_000_000)
    found = list(PoolOffers(pool)(mac(), [mine]))
    wanted = offered(pool(), mac())
    assert found[: len(wanted)] == wanted
    (own,) = found[len(wanted) :]
    assert (own.model, own.quantization) == ("my-finetune", "q5_k_m")
    assert own.reason == "a file on this machine, of a model that nobody in the pool serves"
    same_size = next(one for one in wanted if (one.model, one.quantization) == ("llama-3.1-8b", "q8_0"))
    assert same_size.tokens_per_s < own.tokens_per_s < 3 * same_size.tokens_per_s


def test_a_worse_file_of_a_wanted_model_is_judged_and_not_recommended() -> None:
    """The pool would not ask for q2_k where q8_0 fits, but its owner may have nothing else."""
    found = list(PoolOffers(pool)(mac(), [own_file("llama-3.1-8b", "q2_k"), own_file("llama-3.1-8b", "q8_0")]))
    names = [(one.model, one.quantization) for one in found]
    assert names[-1] == ("llama-3.1-8b", "q2_k")
    assert names.count(("llama-3.1-8b", "q8_0")) == 1


SMALL = {"parameters": 134_515_008, "layers": 30, "kv_heads": 3, "head_dim_k": 64, "head_dim_v": 64}


def small_files(*quantizations: str, model: str = "smollm2-135m") -> list[ModelInstance]:
    """Files of a model under 7B, as a folder lists them."""
    return [own_file(model, one, **SMALL) for one in quantizations]


def test_the_first_machine_of_a_pool_is_offered_its_best_file_not_the_first_of_the_alphabet() -> None:
    """Nothing is wanted yet: the decision matrix ranks what lies there. Under 7B that is q8_0, where it fits."""
    files = small_files("q4_0", "q4_k_m", "q8_0")
    for order in (files, files[::-1]):
        found = list(PoolOffers(snapshot)(mac(), order))
        assert [one.quantization for one in found] == ["q8_0", "q4_k_m", "q4_0"]
        assert "the best choice for this machine" in found[0].reason
    of_large = [own_file("llama-3.3-70b", one, **LARGE) for one in ("q2_k", "q4_k_m", "q8_0")]
    assert next(iter(PoolOffers(snapshot)(mac(), of_large))).quantization == "q4_k_m"


def test_of_several_models_the_best_of_each_comes_before_the_second_best_of_any_and_what_crawls_last() -> None:
    """A machine with many files is not asked to serve the first model's worse files before the second model."""
    files = [
        *[own_file("a-70b", one, **LARGE) for one in ("q6_k", "q8_0")],
        *small_files("q4_0", "q8_0", model="b-small"),
        *small_files("q4_0", "q8_0", model="c-small"),
    ]
    named = [(one.model, one.quantization) for one in PoolOffers(snapshot)(mac(), files)]
    assert named[:2] == [("b-small", "q8_0"), ("c-small", "q8_0")]
    assert {model for model, _ in named[-2:]} == {"a-70b"}


def test_what_lies_below_the_pools_floor_is_offered_last_and_says_so() -> None:
    """Requests that name no quantization would never reach it."""
    files = [*small_files("q4_0"), *small_files("q4_0", model="other")]
    found = list(PoolOffers(snapshot, {"smollm2-135m": "q6_k"})(mac(), files))
    assert [one.model for one in found] == ["other", "smollm2-135m"]
    assert "below the pool's floor of q6_k" in found[-1].reason


def test_files_that_do_not_fit_or_cannot_be_true_are_left_out() -> None:
    """A joining machine is not refused for a damaged file in its folder."""
    files = [
        own_file("huge", "q8_0", **{**LARGE, "weights_bytes": 75_000_000_000}),
        own_file("odd", "q8_0", bits_per_weight=1e30),
        own_file("bare", "q8_0", parameters=0, layers=0, kv_heads=0),
        own_file("strange", "no-such-format"),
    ]
    small = mac(16, 10.67)
    assert list(PoolOffers(pool)(small, told(files))) == offered(pool(), small)
    many = [own_file(f"m{n}", "q8_0") for n in range(500)]
    assert len(list(PoolOffers(pool)(mac(), told(many)))) < 100
