"""What is predicted before anything was measured, against what an H100 then did: every cell of FACTS.md's table.

One H100 80GB HBM3 (SXM), driver 580, CUDA 13.0, 27 November 2026: llama-cpp-python 0.3.36 and vLLM 0.26.0, weights of
Llama's shapes, 268 tokens of context a sequence; and SmolLM2-135M on vLLM, which waits for its host.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from loadtest.bench.decode import measure as older_table
from protos.contract.worker import Hardware, ModelInstance
from router.capacity.speed import predict_speed

BATCHES = (1, 2, 4, 8, 16, 32, 64)
CONTEXT_TOKENS = 268
H100 = Hardware(kind="nvidia", name="NVIDIA H100 80GB HBM3", memory_bytes=85520809984, cores=132)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model: milliseconds of a decode step by ``BATCHES``, and prefill's tokens a second where it was measured."""

    name: str
    model: ModelInstance
    step_ms: tuple[float, ...]
    prefill_tokens_per_s: float = 0.0


def _llama(quantization: str, size: str, weights_bytes: int, kind: str = "gguf") -> ModelInstance:
    large = size == "70B"
    return ModelInstance(
        model=f"llama-{size}", quantization=quantization, format=kind, weights_bytes=weights_bytes, slots=64,
        parameters=70_553_706_496 if large else 8_030_261_248, layers=80 if large else 32,
        kv_bytes_per_token=327_680 if large else 131_072,
    )  # fmt: skip


ROWS: tuple[Row, ...] = (
    Row(name="8B Q4_K_M", model=_llama("q4_k_m", "8B", 4_912_898_048),
        step_ms=(3.99, 4.59, 6.16, 8.83, 8.73, 10.75, 15.71)),
    Row(name="8B Q8_0", model=_llama("q8_0", "8B", 8_532_934_656),
        step_ms=(4.54, 5.01, 5.61, 7.77, 9.26, 11.01, 14.90)),
    Row(name="8B F16", model=_llama("fp16", "8B", 16_060_522_496),
        step_ms=(6.27, 8.41, 8.49, 8.91, 9.65, 10.32, 12.64)),
    Row(name="70B Q4_K_M", model=_llama("q4_k_m", "70B", 42_512_531_456), prefill_tokens_per_s=1222.0,
        step_ms=(23.8, 25.2, 36.2, 58.2, 45.8, 57.8, 82.6)),
    Row(name="8B AWQ, vLLM", model=_llama("awq", "8B", 5_727_854_592, "awq"), prefill_tokens_per_s=39_100.0,
        step_ms=(4.14, 4.15, 4.19, 4.27, 4.34, 4.90, 6.40)),
    Row(name="135M AWQ, vLLM", step_ms=(2.62, 2.78, 2.65, 3.20, 3.05, 4.71, 4.81),
        model=ModelInstance(
            model="smollm2-135m", quantization="awq", format="awq", weights_bytes=113_924_736, slots=64,
            parameters=134_515_008, layers=30, kv_bytes_per_token=23_040,
        )),
)  # fmt: skip


def cells() -> Iterator[tuple[Row, int, float, float]]:
    """Row, batch, predicted and measured seconds of a decode step."""
    for row in ROWS:
        speed = predict_speed(H100, row.model)
        for batch, took_ms in zip(BATCHES, row.step_ms, strict=True):
            yield row, batch, speed.step_s(batch, batch * CONTEXT_TOKENS), took_ms / 1e3


def errors() -> list[float]:
    """Relative, of every cell."""
    return [abs(predicted / measured - 1.0) for _, _, predicted, measured in cells()]


def measure(options: argparse.Namespace) -> Mapping[str, float]:
    """The table; median and worst error of decode on the H100, of its prefill, and of the older table."""
    del options
    for row in ROWS:
        shown = [
            f"{1e3 * measured:6.2f} ({1e3 * predicted:6.2f})" for one, _, predicted, measured in cells() if one is row
        ]
        print(f"{row.name:15s}" + "  ".join(shown))
    print("ms a decode step at 1, 2, 4, 8, 16, 32 and 64 sequences: measured (predicted)")
    prefill = [
        abs(predict_speed(H100, row.model).prefill_tokens_per_s / row.prefill_tokens_per_s - 1.0)
        for row in ROWS
        if row.prefill_tokens_per_s
    ]
    found = errors()
    older = older_table()
    return {
        "prediction_h100_median_error": statistics.median(found),
        "prediction_h100_worst_error": max(found),
        "prediction_h100_prefill_error": max(prefill),
        "prediction_older_median_error": older["median_error"],
        "prediction_older_worst_error": older["worst_error"],
    }
