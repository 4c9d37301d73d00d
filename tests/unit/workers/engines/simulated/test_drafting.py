"""The simulated engine with a draft model: decoding takes what rounds take, and the load tells what they were."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from workers.engines.simulated.batch.core import NEVER, SimulatedCore
from workers.engines.simulated.batch.sequence import Sequence_
from workers.engines.simulated.parameters import EngineParameters
from workers.engines.simulated.profile import ProfileError, read_profile
from workers.speculation.acceptance import expected_tokens, round_time_s
from workers.speculation.rounds import Drafting

PARAMETERS = EngineParameters(
    base_s=0.050, per_sequence_s=0.002, per_context_token_s=0.0, prefill_token_s=1e-4, slots=8, noise=0.0
)
OUTPUT = 401


def decoded(parameters: EngineParameters, sequences: int) -> tuple[float, SimulatedCore, float]:
    """Seconds from first to last token, the core, and its end."""
    core = SimulatedCore(parameters, random.Random(0))
    asked = [Sequence_(key=number, prompt_tokens=8, output_tokens=OUTPUT) for number in range(sequences)]
    for one in asked:
        core.submit(0.0, one)
    now = 0.0
    while len(core):
        now = core.next_event_at()
        assert now < NEVER
        core.step(now)
    assert asked[0].first_at is not None
    assert asked[0].ended_at is not None
    return asked[0].ended_at - asked[0].first_at, core, now


@pytest.mark.parametrize("sequences", [1, 4])
@pytest.mark.parametrize(("acceptance", "length", "rtt_s"), [(0.55, 1, 0.0), (0.8, 3, 0.01), (0.9, 8, 0.1)])
def test_decoding_takes_the_closed_form(sequences: int, acceptance: float, length: int, rtt_s: float) -> None:
    """Tokens x round time / E, but for the step in which the others' prompts are read."""
    draft = Drafting(acceptance=acceptance, base_s=0.004, per_sequence_s=1e-4, rtt_s=rtt_s, fixed=length)
    took, core, now = decoded(replace(PARAMETERS, drafting=draft), sequences)
    verify_s = PARAMETERS.decode_s(sequences * (1 + length), 0)
    a_round = round_time_s(length, verify_s=verify_s, draft_token_s=0.004 + 1e-4 * sequences, rtt_s=rtt_s)
    each = expected_tokens(acceptance, length)
    assert took == pytest.approx((OUTPUT - 1) * a_round / each, rel=1e-6 if sequences == 1 else 0.002)
    load = core.load(now)
    assert load.draft_rounds == pytest.approx(sequences * (OUTPUT - 1) / each, abs=sequences)
    assert load.draft_proposed == pytest.approx(length * load.draft_rounds, rel=0.01)
    assert 1 + load.draft_accepted / load.draft_rounds == pytest.approx(each, rel=0.01)


def test_where_it_does_not_pay_it_is_as_without() -> None:
    """The governor keeps it off: no round, and the same seconds."""
    far = replace(PARAMETERS, drafting=Drafting(acceptance=0.5, base_s=0.02, rtt_s=0.2))
    with_it, core, now = decoded(far, 2)
    without, _, _ = decoded(PARAMETERS, 2)
    assert with_it == pytest.approx(without)
    assert core.load(now).draft_rounds == 0


def test_verifying_goes_on_beyond_a_measured_curve() -> None:
    """Eight rows of a curve over four sequences cost more than four, and no less than the line between them says."""
    curve = replace(
        PARAMETERS, decode_curve_s=(0.010, 0.012, 0.014, 0.016), drafting=Drafting(acceptance=0.9, base_s=0.0, fixed=1)
    )
    rounds = curve.rounds()
    assert rounds is not None
    assert rounds.round(4, 0.0).seconds == pytest.approx(0.024)
    assert rounds.round(2, 0.0).seconds == pytest.approx(0.016)


def test_a_profile_tells_of_a_draft(tmp_path: Path) -> None:
    """In milliseconds; what is missing or impossible is named."""
    path = tmp_path / "m.toml"
    path.write_text('machine = "rtx-4090"\n[draft]\nacceptance = 0.7\nbase_ms = 3\nrtt_ms = 1\n', encoding="utf-8")
    assert read_profile(str(path)).true.drafting == Drafting(acceptance=0.7, base_s=0.003, rtt_s=0.001)
    for wrong, told in (("acceptance = 1.5\nbase_ms = 3", "acceptance"), ("acceptance = 0.5", "base_ms is missing")):
        path.write_text(f'machine = "rtx-4090"\n[draft]\n{wrong}\n', encoding="utf-8")
        with pytest.raises(ProfileError, match=told):
            read_profile(str(path))
