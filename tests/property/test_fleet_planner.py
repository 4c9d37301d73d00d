"""What the planner keeps to, whatever is wanted and whatever there is."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.contract.worker import InstanceState
from router.fleet.desired.values import DesiredModel, DesiredState
from router.fleet.planning.foresight import after
from router.fleet.planning.observed import Copy, Node, Observed
from router.fleet.planning.planner import plan
from router.fleet.planning.steps import Load, Step, Unload
from tests.support.planned import GIB, copy_of, file_of, node_of, observed, state_of, wanted

NAMES = ("ada", "bea", "cleo", "dora")
FILES = {
    (name, q): file_of(name, q, gib)
    for name, gib in zip(NAMES, (0.5, 1, 2, 3), strict=True)
    for q in ("q8_0", "q4_k_m")
}


@st.composite
def states(draw: st.DrawFn) -> DesiredState:
    models = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4)):
        least = draw(st.integers(0, 3))
        models.append(
            wanted(
                name,
                least,
                draw(st.integers(max(least, 1), 4)),
                quantizations=draw(st.sampled_from([(), ("q8_0",), ("q8_0", "q4_k_m"), ("q4_k_m",)])),
                pin=draw(st.booleans()),
                idle_s=draw(st.sampled_from([0.0, 60.0, 600.0])),
            )
        )
    return state_of(*models)


@st.composite
def nodes(draw: st.DrawFn, name: str, state: DesiredState) -> Node:
    usable = draw(st.sampled_from([1.0, 2.5, 4.0, 6.0])) * GIB
    copies: list[Copy] = []
    for model, quantization in draw(st.lists(st.sampled_from(sorted(FILES)), unique_by=lambda k: k[0], max_size=3)):
        by = draw(st.sampled_from([None, state.model(model) or wanted(model), wanted(model)]))
        if by is not None and draw(st.booleans()):
            by = replace_context(by)
        copy = copy_of(
            FILES[model, quantization],
            model=by,
            state=draw(st.sampled_from(["ready", "ready", "ready", "loading", "failed", "unloading"])),
            resident_s=draw(st.sampled_from([0.0, 5.0, 40.0, 1000.0])),
            unused_s=draw(st.sampled_from([0.0, 100.0, 5000.0])),
            running=draw(st.integers(0, 1)),
            failures=draw(st.integers(0, 3)),
            failed_s=draw(st.sampled_from([0.0, 30.0, 1000.0])),
        )
        if sum(one.needs_bytes for one in copies) + copy.needs_bytes <= usable:
            copies.append(copy)
    files = draw(st.lists(st.sampled_from(sorted(FILES)), unique=True, max_size=8))
    return node_of(
        name,
        [FILES[key] for key in files],
        copies,
        usable_bytes=usable,
        takes_models=draw(st.sampled_from([True, True, True, False])),
        available=draw(st.sampled_from([True, True, True, False])),
    )


def replace_context(model: DesiredModel) -> DesiredModel:
    """As an earlier file had it."""
    return wanted(model.name, model.copies.min, model.copies.max, tensor_parallel=2)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[DesiredState, Observed]:
    state = draw(states())
    there = [draw(nodes(f"n{number}", state)) for number in range(draw(st.integers(0, 4)))]
    demand = draw(
        st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(1, 3), st.sampled_from([0.1, 40.0])), max_size=2)
    )
    return state, observed(*there, demand=demand)


def serving(seen: Observed, model: str) -> int:
    return sum(node.available and copy.ready for node in seen.nodes for copy in node.copies if copy.model == model)


def begun(seen: Observed, steps: tuple[Step, ...]) -> Observed:
    """The steps as they begin: what goes serves nobody any more, what comes serves nobody yet, and both take memory."""
    there = []
    for node in seen.nodes:
        copies = list(node.copies)
        for step in steps:
            if isinstance(step, Unload) and step.worker_id == node.worker_id:
                copies = [_going(one) if one.instance.key == (step.model, step.quantization) else one for one in copies]
        there.append(replace(node, copies=tuple(copies)))
    return replace(seen, nodes=tuple(there))


def _going(copy: Copy) -> Copy:
    return replace(copy, instance=replace(copy.instance, state=InstanceState.UNLOADING))


@given(worlds())
@settings(max_examples=400, deadline=None)
def test_a_plan_keeps_to_its_bounds(world: tuple[DesiredState, Observed]) -> None:
    """One change per node; memory; the copies that must be there; owners' choices; back-off."""
    state, seen = world
    ahead = plan(state, seen)
    nodes_by_id = {node.worker_id: node for node in seen.nodes}
    touched = [step.worker_id for step in ahead.steps if isinstance(step, (Load, Unload))]
    assert len(touched) == len(set(touched))
    for step in ahead.steps:
        assert isinstance(step, (Load, Unload))
        node = nodes_by_id[step.worker_id]
        assert node.takes_models
        assert node.available
        assert not node.changing
        mine = [copy for copy in node.copies if copy.instance.key == (step.model, step.quantization)]
        if isinstance(step, Unload):
            assert mine[0].instance.ordered
            continue
        assert node.held_bytes + step.needs_bytes <= node.usable_bytes
        assert step.file in {one.file for one in node.files}
        for copy in mine:
            assert copy.instance.state is InstanceState.FAILED
            assert not copy.failures or copy.failed_s >= 5.0
    now = begun(seen, ahead.steps)
    for model in state.models:
        assert serving(now, model.name) >= min(model.copies.min, serving(seen, model.name)), model.name


@given(worlds())
@settings(max_examples=250, deadline=None)
def test_the_plan_comes_to_an_end_where_nothing_fails(world: tuple[DesiredState, Observed]) -> None:
    """Followed to its end it asks for nothing more; nobody is above its memory, or missing without a reason."""
    state, seen = world
    now = replace(seen, demand={})
    for _ in range(40):
        ahead = plan(state, now)
        if not ahead.steps and not ahead.waiting and not any(node.changing for node in now.nodes):
            break
        before = {model.name: serving(now, model.name) for model in state.models}
        now = _later(after(now, ahead.steps, later_s=50.0))
        for model in state.models:
            assert serving(now, model.name) >= min(model.copies.min, before[model.name])
        for node in now.nodes:
            assert node.held_bytes <= node.usable_bytes + 1.0
    assert not plan(state, now).steps, now
    for model in state.models:
        ahead = plan(state, now)
        if serving(now, model.name) < model.copies.min:
            assert model.name in {**ahead.blocked, **ahead.waiting}, now


def _later(seen: Observed) -> Observed:
    """What was under way is done."""
    there = []
    for node in seen.nodes:
        done = []
        for copy in node.copies:
            if copy.instance.state in (InstanceState.LOADING, InstanceState.BENCHMARKING):
                copy = replace(copy, instance=replace(copy.instance, state=InstanceState.READY))
            if copy.instance.state is not InstanceState.UNLOADING:
                done.append(replace(copy, running=0))
        there.append(replace(node, copies=tuple(done)))
    return replace(seen, nodes=tuple(there))
