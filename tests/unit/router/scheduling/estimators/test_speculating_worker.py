"""Rule: a worker that speculates is priced by the tokens it says, not by its steps: they take longer and say more."""

from dataclasses import replace

import pytest

from protos.contract.worker import Load
from router.scheduling.estimators.speed_model import SpeedModel
from router.scheduling.placement.candidates import InstanceKey
from tests.support import fleets

STEP_S = 0.020
"""Of the benchmark; a step that verifies takes half as long again."""


def learned(tokens_per_round: float, *, batch: int = 4, reports: int = 300) -> float:
    """Seconds of a token once so many load reports were seen, several steps apart."""
    speed = replace(fleets.SPEED, base_s=STEP_S, per_sequence_s=0.0, per_context_token_s=0.0)
    instance = fleets.instance(speed=speed)
    view = fleets.worker("mac", instance)
    key = InstanceKey(view.worker_id, instance.model, instance.quantization)
    model = SpeedModel(lambda _hardware, _instance: speed)
    model.ensure(key, view, instance)
    steps, accepted = 100, 1000.0
    for number in range(reports):
        more = 1 + number % 5
        steps, accepted = steps + more, accepted + more * batch * (tokens_per_round - 1.0)
        slower = 1.5 if tokens_per_round > 1.0 else 1.0
        load = Load(
            step_sequence=steps, last_step_s=slower * STEP_S, last_step_batch=batch, draft_accepted=int(accepted),
            running=batch,
        )  # fmt: skip
        model.observed(replace(view, load=load))
    return model.speed(key).step_s(batch, 0.0)


@pytest.mark.parametrize(("tokens", "expected_s"), [(1.0, 1.0), (1.5, 1.0), (2.0, 0.75), (3.0, 0.5)])
def test_it_costs_what_its_tokens_take(tokens: float, expected_s: float) -> None:
    """In steps of one that does not."""
    assert learned(tokens) == pytest.approx(expected_s * STEP_S, rel=0.05)


def test_nobody_is_believed_to_say_any_number_of_tokens_at_once() -> None:
    """Whoever claims that would be sent everything."""
    assert learned(1e6) > STEP_S / 40
