"""The watchdog tells silence from a hang, and a slow engine from a dead one."""

from protos.contract.worker import Load
from router.config import FleetConfig
from router.sessions.watchdog import FIRST_STEP_S, MAX_HANG_S, Health, Liveness, hang_limit_s, judge

CONFIG = FleetConfig()


STEPPING = Load(last_step_s=0.05)


def liveness(
    *, heard: float = 0.0, progress: float = 0.0, attempts: int = 0, load: Load = STEPPING, longest: float = 0.05
) -> Liveness:
    """What is known, with ages in seconds before now."""
    return Liveness(
        now=100.0,
        last_heard=100.0 - heard,
        progress_at=100.0 - progress,
        open_attempts=attempts,
        load=load,
        longest_step_s=longest,
    )


def test_a_session_that_says_nothing_is_silent() -> None:
    """Silence is judged before anything else."""
    assert judge(liveness(heard=CONFIG.silence_s + 0.1), CONFIG) is Health.SILENT


def test_an_idle_engine_does_not_hang() -> None:
    """Standing still without work is no fault."""
    assert judge(liveness(progress=1000), CONFIG) is Health.ALIVE


def test_an_engine_with_work_that_stands_still_hangs() -> None:
    """The event loop answers pings, the engine does not step."""
    assert judge(liveness(progress=CONFIG.hang_s + 0.1, attempts=1), CONFIG) is Health.HANGING
    assert (
        judge(liveness(progress=CONFIG.hang_s + 0.1, load=Load(running=1, last_step_s=0.05)), CONFIG) is Health.HANGING
    )


def test_a_slow_engine_is_given_its_own_measure_of_time() -> None:
    """An engine whose steps take a second is not hanging after three."""
    slow = Load(running=1, last_step_s=1.0)
    assert judge(liveness(progress=CONFIG.hang_s + 1, load=slow), CONFIG) is Health.ALIVE
    assert hang_limit_s(liveness(load=Load(last_step_s=1000)), CONFIG) == MAX_HANG_S


def test_behind_a_short_step_a_long_prefill_may_come() -> None:
    """The longest step seen lately counts too, and so does never having seen one."""
    assert judge(liveness(progress=CONFIG.hang_s + 1, attempts=1, longest=2.0), CONFIG) is Health.ALIVE
    assert judge(liveness(progress=6.1, attempts=1, longest=2.0), CONFIG) is Health.HANGING
    assert judge(liveness(progress=CONFIG.hang_s + 1, attempts=1, load=Load()), CONFIG) is Health.ALIVE
    assert judge(liveness(progress=FIRST_STEP_S + 1, attempts=1, load=Load()), CONFIG) is Health.HANGING
