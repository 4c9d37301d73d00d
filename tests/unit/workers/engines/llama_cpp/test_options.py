"""What is chosen where nobody says: by machine and model; what somebody says stands."""

from dataclasses import replace
from pathlib import Path

import pytest

from protos.contract.models.model_shape import ModelShape
from protos.contract.worker import Hardware
from workers.engines.base import LoadError, ModelSpec
from workers.engines.llama_cpp.memory import Offer
from workers.engines.llama_cpp.options import Options, by_device, options_of, told_by, worth_threads
from workers.neighbours.place import VARIABLE

GIB = 2**30
MODEL = ModelShape(
    name="llama-3-8b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim_k=128, head_dim_v=128,
    feed_forward=14336, vocabulary=128256, context_tokens=131072, quantization="q4_k_m",
    weights_bytes=int(4.6 * GIB),
)  # fmt: skip
CPU = Hardware(kind="cpu", name="x", cores=16, details={"physical_cores": "8"})
H100 = Hardware(kind="nvidia", name="NVIDIA H100 80GB HBM3", memory_bytes=80 * GIB, cores=132)
MAC = Hardware(kind="apple", name="Apple M4 Max", cores=40)


def chosen(hardware: Hardware, usable_gib: float, *, cores: int = 8, spec: ModelSpec | None = None) -> Options:
    asked = spec or ModelSpec(name="m", path="m.gguf")
    return by_device(
        options_of(asked), told_by(asked), MODEL, hardware, usable_bytes=int(usable_gib * GIB), cores=cores
    )


@pytest.mark.parametrize(
    ("hardware", "usable", "slots", "chunk", "threads"),
    [
        (CPU, 60, 8, 128, 8),
        (H100, 79, 64, 512, 4),
        (H100, 40, 32, 512, 4),
        (H100, 22, 16, 512, 4),
        (Hardware(kind="amd", name="AMD Radeon RX 7900 XT"), 19.5, 8, 512, 4),
        (MAC, 100, 8, 512, 4),
        (H100, 0, 8, 512, 4),  # a slice whose memory nobody tells
        (CPU, 7, 4, 128, 8),
        (H100, 6, 1, 512, 4),
    ],
)
def test_the_device_and_its_memory_decide(
    hardware: Hardware, usable: float, slots: int, chunk: int, threads: int
) -> None:
    """A GPU prefills more at once and serves as many as have room; a processor computes on its cores."""
    found = chosen(hardware, usable)
    assert (found.slots, found.prefill_tokens, found.threads) == (slots, chunk, threads)
    assert (found.exact, found.flash_attention, found.context_tokens) == (False, True, 4096)


def test_what_somebody_said_stands() -> None:
    """By flag or by option, on any device."""
    spec = ModelSpec(
        name="m", path="m.gguf", slots=3, context_tokens=512,
        options={"threads": 2, "prefill_tokens": 64, "exact": True, "kv_type": "q8_0", "flash_attention": True},
    )  # fmt: skip
    for hardware in (CPU, H100, MAC):
        found = chosen(hardware, 79, spec=spec)
        assert (found.slots, found.threads, found.prefill_tokens, found.context_tokens) == (3, 2, 64, 512)
        assert (found.exact, found.kv_type) == (True, "q8_0")


def test_a_smaller_cache_is_taken_only_where_nothing_else_fits() -> None:
    """Two slots of 16 bits before one of eight; one of eight before a refusal."""
    plain = chosen(CPU, 6.2)
    assert (plain.slots, plain.kv_type) == (2, "f16")
    spec = ModelSpec(name="m", path="m.gguf", context_tokens=8192)
    found = chosen(CPU, 5.6, spec=spec)
    assert (found.slots, found.kv_type) == (1, "q8_0")
    hopeless = chosen(CPU, 4.7, spec=spec)
    assert (hopeless.slots, hopeless.kv_type) == (1, "f16"), "it is refused with its figures"


def test_layers_left_to_the_processor_have_its_cores() -> None:
    """Of a model that was split by hand."""
    assert chosen(H100, 79, cores=16, spec=ModelSpec(name="m", path="m", options={"gpu_layers": 20})).threads == 16


def test_more_memory_never_means_fewer_slots() -> None:
    """From nearly none to plenty."""
    slots = [chosen(H100, 5 + step / 4).slots for step in range(400)]
    assert slots == sorted(slots)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"kv_type": "fp8"}, "must be one of f16, q8_0, q4_0"), ({"kv_type": "q8_0", "flash_attention": False}, "needs")],
)
def test_a_cache_that_llama_cpp_has_not_is_refused(options: dict[str, str | bool], says: str) -> None:
    """In one line that names the option."""
    with pytest.raises(LoadError, match=says):
        options_of(ModelSpec(name="m", path="m", options=dict(options)))


def test_what_was_chosen_is_shown() -> None:
    """In the worker's log and while it loads."""
    shown = str(replace(chosen(CPU, 60), share_cores=True, exact=True))
    assert shown == "8 slots of 4096 tokens, chunks of 128, up to 8 threads, KV cache f16, exact"


@pytest.mark.parametrize(
    ("times", "threads"),
    [
        ({8: 1.0, 6: 1.3, 4: 2.0}, 8),
        ({8: 1.0, 6: 0.97, 4: 0.96}, 8),  # no better than chance
        ({8: 1.0, 6: 0.9, 4: 0.88}, 6),
        ({8: 1.0, 6: 0.9, 4: 0.6}, 4),
        ({8: 1.0, 6: 1.2, 4: 0.5}, 4),
    ],
)
def test_fewer_threads_are_taken_where_they_are_clearly_faster(times: dict[int, float], threads: int) -> None:
    """All, three quarters, half: hybrid processors, and those whose memory is the bound."""
    assert worth_threads(8, times.__getitem__) == threads


def offer(cores: int = 8, hardware: Hardware = CPU) -> Offer:
    return Offer(hardware=hardware, usable_bytes=0, cores=cores)


def half_is_fastest(threads: int) -> float:
    return threads / 8


@pytest.mark.parametrize(
    ("told", "options", "here", "threads"),
    [
        ((), Options(threads=8), offer(), 4),
        (("threads",), Options(threads=8), offer(), 8),  # somebody's word
        (("threads", "share_cores"), Options(threads=8, share_cores=True), offer(), 4),
        ((), Options(threads=2), offer(), 2),  # nothing to try
        ((), Options(threads=8), offer(hardware=H100), 8),
        ((), Options(threads=8, share_cores=True), offer(cores=4), 8),  # neighbours compute on the others
    ],
)
def test_threads_are_tried_where_nobody_told_and_nobody_else_computes(
    told: tuple[str, ...], options: Options, here: Offer, threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A few steps, when the model is loaded."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert here.tried(options, told, 1, half_is_fastest).threads == threads
