"""What a worker may say about itself: everything an honest one says passes, what cannot be true does not."""

from collections.abc import Sequence

import pytest

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.codec.stream import REFUSAL, RETURNED, decode_delta
from protos.contract.codec.worker import INSTANCE
from protos.contract.printable import one_line
from protos.contract.validation import MAX_TEXT, OutOfBounds, check_hello, check_instance, check_load

FAST = pb.Speed(base_s=1e-4, per_sequence_s=1e-6, per_context_token_s=1e-9, prefill_tokens_per_s=1e6, measured=True)


def curved(
    decode: Sequence[tuple[int, float]] = (), prefill: Sequence[tuple[int, float]] = (), **more: float
) -> pb.Speed:
    """A speed with such points of its curves."""
    points = [[pb.CurvePoint(at=at, seconds=seconds) for at, seconds in one] for one in (decode, prefill)]
    line = {"base_s": 0.01, "prefill_tokens_per_s": 100.0, **more}
    return pb.Speed(decode_curve=points[0], prefill_curve=points[1], **line)


def model(**more: object) -> pb.ModelInstance:
    return pb.ModelInstance(model="m", quantization="q8_0", context_tokens=2**20, slots=1024, **more)  # type: ignore[arg-type]


def test_what_the_largest_and_fastest_machines_say_is_not_refused() -> None:
    """The bounds are far above what an honest worker says."""
    profile = pb.Profile(node="dgx", engine="vllm", hardware=pb.Hardware(kind="nvidia", name="NVIDIA GB300", count=72))
    profile.hardware.memory_bytes = 72 * 288 * 2**30
    profile.hardware.bandwidth_bytes_per_s = 72 * 8e12
    profile.hardware.details["Form Factor"] = "rack, 液冷 ®"
    large = model(parameters=2 * 10**12, weights_bytes=2 * 10**12, bits_per_weight=16, speed=FAST, tokens_per_byte=0.4)
    check_hello(pb.Hello(worker_id="w", profile=profile, models=[large]))
    check_instance(model(speed=curved([(1, 2e-4), (64, 1e-3), (512, 9e-4)], [(512, 1e-3), (131_072, 2.0)])))
    check_instance(model(error="CUDA error:\n  out of memory\n"))
    check_load(pb.Load(kv_used=1.02, tokens_per_s=250_000, last_step_s=40))


@pytest.mark.parametrize(
    "said",
    [
        {"speed": pb.Speed(base_s=1e-300, prefill_tokens_per_s=100)},
        {"speed": pb.Speed(base_s=0.01, prefill_tokens_per_s=1e-320)},
        {"speed": pb.Speed(base_s=0.01, prefill_tokens_per_s=1e300)},
        {"speed": pb.Speed(base_s=0.01, per_context_token_s=1e308, prefill_tokens_per_s=100)},
        {"speed": pb.Speed(base_s=1e9, prefill_tokens_per_s=100)},
        {"speed": curved(decode=[(8, 0.01), (8, 0.02)])},
        {"speed": curved(decode=[(8, 0.01), (4, 0.02)])},
        {"speed": curved(decode=[(0, 0.01)])},
        {"speed": curved(decode=[(1, 0.01), (2, 0.0)])},
        {"speed": curved(decode=[(1, 1e-9)])},
        {"speed": curved(decode=[(1, float("nan"))])},
        {"speed": curved(decode=[(1, float("inf"))])},
        {"speed": curved(decode=[(1, -0.01)])},
        {"speed": curved(decode=[(one, 0.01) for one in range(1, 1000)])},
        {"speed": curved(prefill=[(128, 0.01), (2**32 - 1, 0.02)])},
        {"speed": curved(prefill=[(128, 0.01)], prefill_tokens_per_s=0.0)},
        {"tokens_per_byte": 1e6},
        {"bits_per_weight": 1e308},
        {"perplexity_ratio": float("nan")},
        {"weights_bytes": 2**64 - 1},
        {"kv_capacity_tokens": 2**64 - 1},
        {"lineage": "\x1b[2J\x1b]0;title\x07"},
        {"file": "safe\u202efugg.exe"},
    ],
)
def test_what_cannot_be_true_ends_the_session(said: dict[str, object]) -> None:
    """Speeds that would win every comparison or spoil every sum, sizes of no machine, text that is not to be shown."""
    with pytest.raises(OutOfBounds, match="model"):
        check_instance(model(**said))


@pytest.mark.parametrize("said", [{"kv_used": 1e9}, {"last_step_s": 1e9}, {"tokens_per_s": float("inf")}])
def test_a_load_that_cannot_be_true_ends_the_session(said: dict[str, float]) -> None:
    with pytest.raises(OutOfBounds, match="load"):
        check_load(pb.Load(**said))  # type: ignore[arg-type]


def test_names_with_control_characters_are_refused() -> None:
    """They end up in tables, logs and headers."""
    hello = pb.Hello(worker_id="w", models=[pb.ModelInstance(model="m\x1b[31m", quantization="q")])
    with pytest.raises(OutOfBounds, match="cannot be printed"):
        check_hello(hello)
    labelled = pb.Hello(worker_id="w", profile=pb.Profile(labels={"site": "lab\r\nx: y"}))
    with pytest.raises(OutOfBounds, match="cannot be printed"):
        check_hello(labelled)


def test_a_workers_own_words_come_out_as_one_short_line() -> None:
    """Whatever it sends as a reason is repeated to clients and kept in logs."""
    long = "line one\nline two\x1b[2J" + "x" * 10_000_000
    said = [
        REFUSAL.decode(pb.Refusal(message=long, parameter=long)).message,
        REFUSAL.decode(pb.Refusal(message=long, parameter=long)).parameter,
        RETURNED.decode(pb.Returned(reason=long)).reason,
        decode_delta(pb.Delta(error=long, finish_reason=pb.FINISH_REASON_ERROR)).error,
        INSTANCE.decode(pb.ModelInstance(error=long)).error,
    ]
    for text in said:
        assert len(text) <= MAX_TEXT
        assert text.isprintable()
        assert text.startswith("line one line two")
    assert one_line("") == ""
