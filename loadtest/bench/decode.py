"""Decode prediction against the measured table of FACTS.md: how far ``predict_speed`` is off, untuned.

Llama-2-7B Q4_0 and Q8_0, tg128, tokens a second (llama.cpp discussions 4167, 15013 and 10879).
"""

import json
import statistics

from protos.contract.worker import Hardware, ModelInstance
from router.capacity.speed import predict_speed

SIZES = {"q4_0": 3_825_807_360, "q8_0": 7_161_089_024}
"""Bytes of the two files: 3.56 and 6.67 GiB, as llama-bench prints them."""

MEASURED: tuple[tuple[str, str, int, str, float], ...] = (
    ("apple", "Apple M1", 8, "q4_0", 14.15),
    ("apple", "Apple M1", 8, "q8_0", 7.91),
    ("apple", "Apple M1 Max", 32, "q4_0", 61.2),
    ("apple", "Apple M1 Max", 32, "q8_0", 40.2),
    ("apple", "Apple M2 Ultra", 76, "q4_0", 94.3),
    ("apple", "Apple M2 Ultra", 76, "q8_0", 66.6),
    ("apple", "Apple M3 Max", 40, "q4_0", 66.3),
    ("apple", "Apple M3 Max", 40, "q8_0", 42.8),
    ("apple", "Apple M3 Ultra", 80, "q4_0", 92.1),
    ("apple", "Apple M3 Ultra", 80, "q8_0", 63.9),
    ("apple", "Apple M4 Pro", 20, "q4_0", 50.7),
    ("apple", "Apple M4 Pro", 20, "q8_0", 30.7),
    ("apple", "Apple M4 Max", 40, "q4_0", 83.1),
    ("apple", "Apple M4 Max", 40, "q8_0", 54.1),
    ("nvidia", "NVIDIA GeForce RTX 3090", 0, "q4_0", 158.0),
    ("nvidia", "NVIDIA GeForce RTX 4090", 0, "q4_0", 186.0),
    ("nvidia", "NVIDIA GeForce RTX 5090", 0, "q4_0", 290.0),
)
"""Kind, name, GPU cores, quantization, tokens a second. Chips whose bandwidth FACTS.md does not give are left out."""


def measure() -> dict[str, float]:
    """Median and worst relative error."""
    errors = [abs(predicted / measured - 1.0) for _, _, predicted, measured in predictions()]
    return {"median_error": round(statistics.median(errors), 4), "worst_error": round(max(errors), 4)}


def predictions() -> list[tuple[str, str, float, float]]:
    """Name, quantization, predicted and measured tokens a second."""
    found = []
    for kind, name, cores, quantization, measured in MEASURED:
        hardware = Hardware(kind=kind, name=name, cores=cores, details={"gpu_cores": str(cores)} if cores else {})
        speed = predict_speed(hardware, _llama_2_7b(quantization))
        found.append((name, quantization, 1.0 / speed.step_s(1, 64), measured))
    return found


def _llama_2_7b(quantization: str) -> ModelInstance:
    return ModelInstance(
        model="llama-2-7b",
        quantization=quantization,
        format="gguf",
        weights_bytes=SIZES[quantization],
        parameters=6_738_415_616,
        layers=32,
        kv_heads=32,
        head_dim_k=128,
        head_dim_v=128,
        context_tokens=4096,
        kv_bytes_per_token=524_288,
    )


def main() -> None:
    """Print each prediction and the errors as JSON."""
    for name, quantization, predicted, measured in predictions():
        print(f"{name:28s} {quantization:6s} {predicted:7.1f} {measured:7.1f}  {predicted / measured - 1:+.1%}")
    print(json.dumps(measure()))


if __name__ == "__main__":
    main()
