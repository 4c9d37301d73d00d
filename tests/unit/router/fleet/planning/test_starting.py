"""Copies on nodes where workers are started: which node, with what, and when one ends."""

from dataclasses import replace
from typing import Any

import pytest

from router.fleet.desired.values import DesiredModel, Source
from router.fleet.node_runner import WORKER_LABEL, RayNode, RunningWorker
from router.fleet.planning.planner import plan
from router.fleet.planning.steps import StartWorker, StopWorker
from router.fleet.planning.ways import order_of
from tests.support.planned import GIB, copy_of, file_of, node_of, observed, state_of, wanted

BIG = RayNode(node_id="n1", name="gpu-1", gpus=4, free_gpus=4, hardware="H100", memory_bytes=80 * GIB)
SMALL = RayNode(node_id="n2", name="gpu-2", gpus=1, free_gpus=1, hardware="A100", memory_bytes=40 * GIB)
PATH = "/models/llama-3.1-8b-awq"


def vllm(least: int = 1, **more: object) -> DesiredModel:
    return wanted("llama-3.1-8b", least, engine="vllm", sources=(Source(path=PATH),), **more)


def joined(name: str, model: DesiredModel, **more: object):  # type: ignore[no-untyped-def]
    """The worker as it joined."""
    copy = copy_of(file_of("llama-3.1-8b", "q8_0"), model=model)
    instance = replace(copy.instance, quantization="awq", ordered=order_of(model, PATH))
    return node_of(
        name,
        [],
        [replace(copy, instance=instance)],
        engine="vllm",
        takes_models=False,
        labels={WORKER_LABEL: name},
        **more,
    )


def test_a_worker_is_started_where_its_gpus_are_free() -> None:
    """The node with the fewest free that suffice; the worker gets a name, its order, and GPUs for tensor parallel."""
    (step,) = plan(state_of(vllm()), observed(ray_nodes=(BIG, SMALL))).steps
    assert isinstance(step, StartWorker)
    assert (step.spec.node_id, step.spec.gpus, step.spec.quantization) == ("n2", 1, "awq")
    assert (step.spec.name, step.spec.path) == ("llama-3.1-8b@awq#1", PATH)
    (step,) = plan(state_of(vllm(tensor_parallel=2)), observed(ray_nodes=(BIG, SMALL))).steps
    assert isinstance(step, StartWorker)
    assert (step.spec.node_id, step.spec.gpus) == ("n1", 2)


def test_one_that_starts_counts_and_one_that_joined_is_known_again() -> None:
    """By its label; nothing is started twice."""
    model, name = vllm(), "llama-3.1-8b@awq#1"
    starting = RunningWorker(name=name, node_id="n2")
    assert not plan(state_of(model), observed(ray_nodes=(BIG,), ray_workers=(starting,))).steps
    there = observed(joined(name, model), ray_nodes=(BIG,), ray_workers=(starting,))
    assert not plan(state_of(model), there).steps
    (step,) = plan(state_of(vllm(2)), there).steps
    assert isinstance(step, StartWorker)
    assert step.spec.name == "llama-3.1-8b@awq#2"


def test_what_the_file_names_no_more_is_stopped_and_so_is_what_ended() -> None:
    """Joined or not."""
    model, name = vllm(), "llama-3.1-8b@awq#1"
    worker = RunningWorker(name=name, node_id="n2")
    for seen in (observed(joined(name, model), ray_workers=(worker,)), observed(ray_workers=(worker,))):
        (step,) = plan(state_of(), seen).steps
        assert isinstance(step, StopWorker)
        assert (step.name, step.model) == (name, "llama-3.1-8b")
    dead = RunningWorker(name=name, node_id="n2", alive=False, reason="it crashed 3 times")
    steps = plan(state_of(model), observed(ray_nodes=(BIG,), ray_workers=(dead,))).steps
    assert [type(one) for one in steps] == [StopWorker, StartWorker]
    assert isinstance(steps[0], StopWorker)
    assert steps[0].why == "it crashed 3 times"


def test_what_no_node_has_is_said_node_by_node() -> None:
    """GPUs, memory, labels, wishes."""
    nodes = (BIG, replace(SMALL, free_gpus=0))
    ahead = plan(state_of(vllm(where="A100")), observed(ray_nodes=nodes))
    assert ahead.blocked["llama-3.1-8b"] == (
        "gpu-2: has 0 of 1 GPUs free, 1 are needed; gpu-1: is not what is wished for: A100"
    )
    ahead = plan(state_of(vllm(labels={"site": "lab"})), observed(ray_nodes=(BIG,)))
    assert ahead.blocked["llama-3.1-8b"] == "gpu-1: lacks the label site=lab"
    tiny = replace(BIG, memory_bytes=2 * GIB)
    assert "needs" in plan(state_of(vllm()), observed(ray_nodes=(tiny,))).blocked["llama-3.1-8b"]


@pytest.mark.parametrize(
    ("going", "where", "why"),
    [
        ({"draining": True}, {}, "its node is being drained"),
        ({}, {"labels": {"site": "b"}}, "its node lacks the label site=b"),
        ({}, {"where": "A100"}, "its node is not what is wished for: A100"),
    ],
)
def test_what_serves_where_it_may_not_be_goes_once_another_copy_serves(
    going: dict[str, bool], where: dict[str, Any], why: str
) -> None:
    """Moved: a drained node, another label, another wish. The copy that must be there is there throughout."""
    model, first, second = vllm(**where), "llama-3.1-8b@awq#1", "llama-3.1-8b@awq#2"
    nodes = (replace(BIG, **going), replace(SMALL, labels={"site": "b"}))
    workers = (RunningWorker(name=first, node_id="n1"), RunningWorker(name=second, node_id="n2"))
    (step,) = plan(state_of(model), observed(joined(first, model), ray_nodes=nodes, ray_workers=workers[:1])).steps
    assert isinstance(step, StartWorker)
    assert (step.spec.node_id, step.spec.name) == ("n2", second)
    coming = observed(joined(first, model), ray_nodes=nodes, ray_workers=workers)
    assert not plan(state_of(model), coming).steps
    there = observed(joined(first, model), joined(second, model), ray_nodes=nodes, ray_workers=workers)
    (step,) = plan(state_of(model), there).steps
    assert isinstance(step, StopWorker)
    assert (step.name, step.why) == (first, why)
    left = observed(joined(second, model), ray_nodes=nodes, ray_workers=workers[1:])
    assert not plan(state_of(model), left).steps


def test_on_the_last_node_that_is_drained_a_copy_stays_as_long_as_it_can() -> None:
    """Nothing else serves; the reason is said."""
    model, name = vllm(), "llama-3.1-8b@awq#1"
    only = replace(BIG, draining=True)
    ahead = plan(
        state_of(model),
        observed(joined(name, model), ray_nodes=(only,), ray_workers=(RunningWorker(name=name, node_id="n1"),)),
    )
    assert not ahead.steps
    assert "gpu-1: is being drained" in {**ahead.waiting, **ahead.blocked}["llama-3.1-8b"]
