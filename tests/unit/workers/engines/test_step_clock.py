"""Rule: a step takes what passes between outputs while work is there; what an engine tells is believed if it agrees."""

import random
from collections.abc import Sequence

import pytest

from protos.contract.stream import Delta
from protos.contract.worker import Load
from workers.engines.base import StepResult
from workers.engines.step_clock import LEAST_COMPARED, StepClock


class Steps:
    """An engine whose steps end when the test says."""

    def __init__(self) -> None:
        self.clock = StepClock()
        self.at = 100.0
        self.sequence = 0

    def step(
        self,
        *,
        took_s: float,
        told_s: float,
        batch: int = 4,
        prefill: int = 0,
        tokens: int | None = None,
        running: int | None = None,
        steps: int = 1,
        late_s: float = 0.0,
        stamped: bool = True,
    ) -> StepResult:
        """So many steps, heard of together."""
        self.at += steps * took_s
        self.sequence += steps
        written = batch if tokens is None else tokens
        load = Load(
            running=batch if running is None else running,
            step_sequence=self.sequence,
            context_tokens=100 * batch,
            last_step_s=told_s,
            last_step_batch=batch,
            last_step_prefill_tokens=prefill,
        )
        deltas = (Delta(request_id="r", attempt=0, position=0, token_count=written),) if written else ()
        result = StepResult(deltas=deltas, load=load, at=self.at if stamped else 0.0)
        return self.clock.heard(result, self.at + late_s)


def seconds(results: Sequence[StepResult]) -> list[float]:
    return [one.step.seconds for one in results if one.step is not None]


@pytest.mark.parametrize(("told_s", "took_s"), [(0.00003, 0.0026), (0.0018, 0.0041), (0.0, 0.004), (0.05, 0.004)])
def test_a_time_that_the_clock_contradicts_is_not_believed(told_s: float, took_s: float) -> None:
    """vLLM's under async scheduling on one H100, of a small model and of an 8B; and one that is too long."""
    engine = Steps()
    heard = [engine.step(took_s=took_s, told_s=told_s) for _ in range(40)]
    if told_s == 0.0:  # and who tells no steps has none
        assert seconds(heard) == []
        assert heard[-1].load.last_step_s == 0.0
        return
    assert seconds(heard) == pytest.approx([took_s] * 39)
    assert heard[-1].load.last_step_s == pytest.approx(took_s)
    assert heard[-1].load.last_step_batch == 4


def test_a_time_that_says_now_this_now_that_is_not_believed() -> None:
    """Its ratio to the clock's is no constant, wherever its median lies."""
    engine, rng = Steps(), random.Random(1)
    heard = [engine.step(took_s=0.004, told_s=rng.choice([0.0018, 0.0039, 0.003])) for _ in range(60)]
    assert seconds(heard[LEAST_COMPARED:]) == pytest.approx([0.004] * (60 - LEAST_COMPARED))


def test_a_time_that_agrees_is_the_finer_one() -> None:
    """The loop that hears of outputs is late now and then; the engine's own time is not, and what passes between two
    steps is added.
    """
    engine, rng = Steps(), random.Random(1)
    for _ in range(60):
        heard = engine.step(took_s=0.0103, told_s=0.01, late_s=rng.uniform(0.0, 0.001), stamped=False)
    assert heard.step is not None
    assert heard.step.seconds == pytest.approx(0.0103, rel=0.01)


def test_a_step_after_a_pause_is_not_the_pause() -> None:
    """Work is not there; nobody knows when it came."""
    doubted, believed = Steps(), Steps()
    for _ in range(20):
        doubted.step(took_s=0.004, told_s=0.001)
        believed.step(took_s=0.004, told_s=0.0039)
    for engine, told_s in ((doubted, 0.001), (believed, 0.0078)):
        engine.step(took_s=0.004, told_s=told_s / 2, running=0)
        engine.at += 30.0
        first = engine.step(took_s=0.008, told_s=told_s, batch=1, prefill=64)
        if engine is doubted:
            assert first.step is None
            assert first.load.last_step_s == pytest.approx(0.004)  # with what that step held
            assert first.load.last_step_prefill_tokens == 0
        else:
            assert first.step is not None
            assert first.step.seconds == pytest.approx(0.008, rel=0.01)
        after = engine.step(took_s=0.004, told_s=told_s / 2, batch=1)
        assert after.step is not None
        assert after.step.seconds == pytest.approx(0.004, rel=0.01)


def test_steps_heard_of_together_are_their_mean_where_they_are_alike() -> None:
    engine = Steps()
    for _ in range(10):
        engine.step(took_s=0.004, told_s=0.001)
    alike = engine.step(took_s=0.004, told_s=0.001, steps=3)
    assert seconds([alike]) == pytest.approx([0.004])
    assert engine.step(took_s=0.006, told_s=0.001, steps=2, batch=7).step is None
    assert engine.step(took_s=0.006, told_s=0.001, steps=2, batch=7, prefill=128).step is None


@pytest.mark.parametrize("each", [2, 3, 4.5])
def test_a_step_that_writes_several_tokens_counts_as_what_it_is(each: float) -> None:
    """Speculation: a token takes its share of the step."""
    engine = Steps()
    heard = [engine.step(took_s=0.012, told_s=0.011, batch=4, tokens=int(4 * each)) for _ in range(60)]
    assert seconds(heard)[-1] == pytest.approx(0.012 / each, rel=0.02)


def test_text_that_is_held_back_is_no_speculation() -> None:
    """Half of a character: nothing now, two tokens with the next step."""
    engine = Steps()
    heard = [engine.step(took_s=0.01, told_s=0.0098, tokens=8 * (number % 2)) for number in range(60)]
    assert seconds(heard)[20:] == pytest.approx([0.01] * len(seconds(heard)[20:]), rel=0.01)


def test_a_model_that_goes_takes_its_steps_with_it() -> None:
    """Counts of all models are one sum: it may fall, and the next step is the first to count from."""
    engine = Steps()
    for _ in range(10):
        engine.step(took_s=0.004, told_s=0.001)
    engine.sequence = 2
    assert engine.step(took_s=5.0, told_s=0.001).step is None
    assert engine.step(took_s=0.004, told_s=0.001).step is None
    assert seconds([engine.step(took_s=0.004, told_s=0.001)]) == pytest.approx([0.004])
