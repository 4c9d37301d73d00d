"""Memory fit is monotone: more context, more sequences or more bits never need less."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.models.kv_cache import KV_BYTES
from protos.contract.models.model_name import parse_name
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import FORMATS, Format
from router.capacity.engines import ENGINES, Engine
from router.capacity.fit import FitResult, Plan, fit, memory
from router.capacity.machine_text import parse_machine
from router.capacity.machines import Machine
from router.capacity.options import option
from router.capacity.shapes import KNOWN_SHAPES

DETERMINISTIC = settings(max_examples=200, derandomize=True, deadline=None)
_RANK = {FitResult.FITS: 0, FitResult.OFFLOADS: 1, FitResult.TOO_LARGE: 2}

shapes = st.sampled_from(KNOWN_SHAPES)
formats = st.sampled_from(FORMATS)
engines = st.sampled_from(list(ENGINES.values()))
machines = st.sampled_from(
    [
        parse_machine(text)
        for text in ("M1 16GB", "M4 Max 128GB", "RTX 3080", "RTX 4090 + 64GB", "2x RTX 4090", "H100", "8x H100",
                     "4x A100 40GB + 512GB", "MI300X", "cpu 64GB")
    ]
)  # fmt: skip
plans = st.builds(
    Plan,
    context_tokens=st.integers(1, 200_000),
    batch=st.integers(1, 256),
    kv_format=st.sampled_from(sorted(KV_BYTES)),
)


def eases(
    small: tuple[Format, Plan], large: tuple[Format, Plan], shape: ModelShape, engine: Engine, machine: Machine
) -> list[str]:
    """What is easier for the larger one, of every part of the memory, what is left, the verdict, what is offloaded."""
    low, high = (memory(shape, fmt, plan, engine, machine) for fmt, plan in (small, large))
    parts = ("weights_bytes", "kv_bytes", "buffers_bytes", "overhead_bytes", "needed_bytes")
    found = [part for part in parts if getattr(low, part) > getattr(high, part)]
    if low.left_bytes < high.left_bytes:
        found.append("left_bytes")
    ends = [fit(shape, fmt, plan, engine, machine) for fmt, plan in (small, large)]
    if any(end.result is FitResult.NOT_SERVED for end in ends):
        return found
    if _RANK[ends[0].result] > _RANK[ends[1].result]:
        found.append("verdict")
    if all(end.runs for end in ends) and ends[0].offloaded > ends[1].offloaded:
        found.append("offloaded")
    return found


@DETERMINISTIC
@given(shape=shapes, fmt=formats, plan=plans, engine=engines, machine=machines, more=st.integers(1, 100_000))
def test_more_context_never_needs_less(
    shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine, more: int
) -> None:
    """Sliding windows included."""
    longer = replace(plan, context_tokens=plan.context_tokens + more)
    assert not eases((fmt, plan), (fmt, longer), shape, engine, machine)


@DETERMINISTIC
@given(shape=shapes, fmt=formats, plan=plans, engine=engines, machine=machines, more=st.integers(1, 2000))
def test_more_sequences_never_need_less(
    shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine, more: int
) -> None:
    """Each holds its own context."""
    wider = replace(plan, batch=plan.batch + more)
    assert not eases((fmt, plan), (fmt, wider), shape, engine, machine)


@DETERMINISTIC
@given(
    shape=shapes, fmt=formats, plan=plans, engine=engines, machine=machines,
    bits=st.tuples(st.floats(1.5, 32.0), st.floats(1.5, 32.0)),
)  # fmt: skip
def test_more_bits_never_need_less(
    shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine, bits: tuple[float, float]
) -> None:
    """Of formats that treat embeddings alike."""
    low, high = (replace(fmt, bits_per_weight=one) for one in sorted(bits))
    assert not eases((low, plan), (high, plan), shape, engine, machine)


@DETERMINISTIC
@given(shape=shapes, plan=plans, engine=engines, machine=machines, pair=st.tuples(formats, formats))
def test_of_published_formats_the_one_with_more_bits_never_needs_less(
    shape: ModelShape, plan: Plan, engine: Engine, machine: Machine, pair: tuple[Format, Format]
) -> None:
    """Among GGUF files, and among those that leave embeddings at 16 bits."""
    low, high = sorted(pair, key=lambda one: one.bits_per_weight)
    if low.keeps_embeddings == high.keeps_embeddings:
        assert (
            memory(shape, low, plan, engine, machine).needed_bytes
            <= memory(shape, high, plan, engine, machine).needed_bytes
        )


@DETERMINISTIC
@given(shape=shapes, fmt=formats, plan=plans, engine=engines, machine=machines)
def test_what_runs_has_a_speed_and_what_does_not_has_none(
    shape: ModelShape, fmt: Format, plan: Plan, engine: Engine, machine: Machine
) -> None:
    """And a batch never writes fewer tokens together than one sequence alone."""
    found = option(shape, fmt, plan, engine, machine)
    if not found.fit.runs:
        assert found.tokens_per_s == found.batch_tokens_per_s == found.prefill_tokens_per_s == 0.0
        assert found.fit.reason
        return
    assert found.tokens_per_s > 0
    assert found.prefill_tokens_per_s > 0
    assert found.batch_tokens_per_s >= found.tokens_per_s * (1 - 1e-9)


@DETERMINISTIC
@given(
    name=st.sampled_from(["llama-3.3-70b-instruct", "Qwen3-30B-A3B", "smollm2_135m", "Mixtral-8x7B-v0.1"]),
    fmt=formats,
    separator=st.sampled_from(["-", ".", "_"]),
    upper=st.booleans(),
    shard=st.one_of(st.none(), st.integers(1, 99_999)),
)
def test_a_name_made_of_model_and_format_is_taken_apart_again(
    name: str, fmt: Format, separator: str, upper: bool, shard: int | None
) -> None:
    """For every format, separator, case and shard."""
    written = fmt.name.upper() if upper else fmt.name
    tail = "" if shard is None else f"-{shard:05d}-of-99999"
    found = parse_name(f"{name}{separator}{written}{tail}.gguf")
    assert (found.model, found.format, found.shard) == (name, fmt, shard or 0)
