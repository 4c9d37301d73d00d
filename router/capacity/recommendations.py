"""What a joining machine should serve: of the models the pool wants, what fits it best, best first.

A model is wanted the more, the more requests there are for each slot that serves it. What a machine would write slower
than one reads is still recommended, after everything it can do well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from protos.contract.joining.enrolment import ModelOffer
from protos.contract.models.model_name import parse_name
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import BY_NAME, FORMATS, canonical
from protos.contract.worker import Hardware, ModelInstance
from router.capacity.engines import ENGINES, Engine
from router.capacity.fit import Plan
from router.capacity.format_choice import Question, choose_format, comfortable
from router.capacity.machines import Machine, machine_of
from router.capacity.options import USUAL, Option, option, options, predicted, runnable
from router.capacity.shapes import find_shape

MAX_RECOMMENDATIONS = 16
MAX_MODELS = 64
"""Models looked at, the most wanted first."""
MIN_CONTEXT_TOKENS = 4096
MIN_BATCH = 4
"""What must fit before a model is recommended: so many sequences of such a context at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model of the pool with how busy it is. ``instances``: as its workers hold it, ready ones first."""

    model: str
    instances: tuple[ModelInstance, ...]
    workers: int
    requests: int  # running and waiting
    slots: int

    @property
    def pressure(self) -> float:
        """Requests for each slot; nobody serving it counts as full."""
        return self.requests / self.slots if self.slots else 1.0 + self.requests


def recommend(hardware: Hardware, engine: str, wanted: Sequence[Wanted]) -> tuple[ModelOffer, ...]:
    """At most MAX_RECOMMENDATIONS, best first; none for an engine whose models are not files of ours to choose."""
    runs = ENGINES.get(engine)
    if runs is None:
        return ()
    machine = machine_of(hardware)
    by_pressure = sorted(wanted, key=lambda one: (-one.pressure, one.model))[:MAX_MODELS]
    found = [offer for one in by_pressure for offer in _of_model(one, machine, runs)]
    # the best of every model before the second best of any; what is too slow to please after what is not
    found.sort(key=lambda ranked: (ranked[0], not ranked[1]))
    return tuple(offer for _, _, offer in found[:MAX_RECOMMENDATIONS])


def recommend_files(
    hardware: Hardware, engine: str, files: Sequence[ModelInstance], held: Sequence[ModelInstance] = ()
) -> tuple[ModelOffer, ...]:
    """Files of one model, those that fit, in the order the decision matrix would take them: what it picks of all, then
    what it picks of the rest, and so on. What it never picks comes last, the least loss first.

    ``held``: the model as the pool's workers hold it, for what a header does not tell. Reasons are the caller's.
    """
    runs = ENGINES.get(engine)
    if runs is None:
        return ()
    machine = machine_of(hardware)
    ways: list[tuple[ModelShape, Plan, Option]] = []
    for file in files:
        shape, fmt = shape_of((file, *held)), BY_NAME.get(canonical(file.quantization))
        if shape is None or fmt is None or not machine.hardware.usable_memory_bytes:
            continue
        plan = _plan(shape)
        way = option(shape, fmt, plan, runs, machine)
        if way.fit.runs and all(way.format is not one.format for _, _, one in ways):
            ways.append((shape, plan, way))
    ranked: list[tuple[ModelShape, Plan, Option]] = []
    while ways:
        question = Question(shape=ways[0][0], machine=machine, options=tuple(way for _, _, way in ways))
        choice = choose_format(question).option or min(question.options, key=lambda one: one.loss)
        taken = next(one for one in ways if one[2] is choice)
        ways.remove(taken)
        ranked.append(taken)
    return tuple(_ranked(files[0].model, *one, machine, "", best=True)[2] for one in ranked)


def _plan(shape: ModelShape) -> Plan:
    return Plan(
        context_tokens=min(MIN_CONTEXT_TOKENS, shape.context_tokens or MIN_CONTEXT_TOKENS),
        batch=MIN_BATCH,
    )


_Ranked = tuple[bool, bool, ModelOffer]
"""Too slow, the model's best, the offer."""


def _of_model(wanted: Wanted, machine: Machine, engine: Engine) -> list[_Ranked]:
    shape = shape_of(wanted.instances)
    if shape is None or not machine.hardware.usable_memory_bytes:
        return []
    plan = _plan(shape)
    held = [canonical(one.quantization) for one in wanted.instances]
    known = {one.name for one in FORMATS}
    names = tuple(dict.fromkeys(name for name in (*held, *USUAL) if name in known))
    ways = options(shape, machine, plan, names, engine=engine)
    chosen = choose_format(Question(shape=shape, machine=machine, options=ways))
    best = chosen.option
    if best is None:
        return []
    # below the best only what the pool already serves: nobody should join to serve worse
    rest = [one for one in runnable(ways) if one is not best and (one.loss < best.loss or one.format.name in held)]
    why = _why(wanted)
    ranked = [_ranked(wanted.model, shape, plan, best, machine, f"{why}; {chosen.reasons[-1]}", best=True)]
    return ranked + [_ranked(wanted.model, shape, plan, one, machine, f"{why}; fits too", best=False) for one in rest]


def _ranked(
    model: str, shape: ModelShape, plan: Plan, way: Option, machine: Machine, reason: str, *, best: bool
) -> _Ranked:
    speed = predicted(shape, way.format, plan, way.engine, machine, offloaded=way.fit.offloaded)
    rate = speed.stream_tokens_per_s
    offer = ModelOffer(
        model=model,
        quantization=way.format.name,
        tokens_per_s=rate,
        prefill_tokens_per_s=speed.prefill_tokens_per_s,
        memory_bytes=way.fit.memory.needed_bytes,
        reason=reason,
    )
    return not comfortable(rate), best, offer


def _why(wanted: Wanted) -> str:
    if not wanted.slots:
        return "wanted, and nobody serves it now"
    workers = "1 worker" if wanted.workers == 1 else f"{wanted.workers} workers"
    return f"wanted: {wanted.requests} requests on {wanted.slots} slots of {workers}"


def shape_of(instances: Sequence[ModelInstance]) -> ModelShape | None:
    """The model's shape, from what its workers report, filled up from its name; None: too little is known."""
    told = next((one for one in instances if one.parameters and one.layers and one.kv_heads), None)
    name = instances[0].model if instances else ""
    known = find_shape(name) or find_shape(parse_name(name).model)
    if told is None:
        return known
    exact = next((one for one in instances if one.weights_bytes), told)
    model = known or ModelShape(
        name=name, layers=told.layers, hidden=0, heads=0, kv_heads=told.kv_heads, head_dim_k=told.head_dim_k,
        head_dim_v=told.head_dim_v, feed_forward=0, vocabulary=0, context_tokens=0,
    )  # fmt: skip
    same = (model.layers, model.kv_heads, model.head_dim_k) == (told.layers, told.kv_heads, told.head_dim_k)
    return replace(
        model,
        name=name,
        layers=told.layers,
        kv_heads=told.kv_heads,
        head_dim_k=told.head_dim_k,
        head_dim_v=told.head_dim_v,
        kv_layers=model.kv_layers if same else (),
        context_tokens=max(one.context_tokens for one in instances) or model.context_tokens,
        stated_parameters=told.parameters,
        weights_bytes=exact.weights_bytes,
        quantization=canonical(exact.quantization) if exact.weights_bytes else "",
        note="",
    )
