"""One row of the table: what an attack cost honest clients and the router."""

from dataclasses import asdict, dataclass, field
from typing import Any

PROBE_P99_MS = 200.0
SHARED_PROBE_P99_MS = 1000.0
"""Where others work on the same machine, as in CI, what they do shows in the probe."""

MEMORY_MB_OVER_IDLE = 256.0
GIVEN_BACK_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``given_back_s``: until descriptors were as before and memory was near; None: not within the time."""

    attack: str
    router: str
    serves: bool = True  # False: a start that must fail
    streams_completed: int
    streams_lost: int
    probe_p99_ms: float
    machine_p99_ms: float  # of the same probe to an idle server beside the router, in the same seconds
    probe_p99_idle_ms: float  # before the attack: what else this machine does shows here
    probes_failed: int
    memory_mb_idle: float
    memory_mb_over_idle: float
    memory_mb_over_idle_after: float
    descriptors_idle: int
    descriptors_most: int
    descriptors_after: int
    given_back_s: float | None
    log_kb: float
    loop_stalls: int  # steps of more than 50 ms of processor time that the router's own watch saw
    loop_stalled_s: float
    culprits: tuple[str, ...]  # of those, where its log is at hand (uvicorn)
    saw: dict[str, float] = field(default_factory=dict)  # by the attacker
    probe_bound_ms: float = PROBE_P99_MS
    errors: tuple[str, ...] = ()  # of honest clients, each kind once
    complaints: tuple[str, ...] = ()  # that follow from what the attacker saw

    @property
    def misses(self) -> list[str]:
        """Where it is not as it must be."""
        found = list(self.complaints)
        if self.streams_lost:
            found.append(f"{self.streams_lost} honest streams lost")
        if self.serves and not self.streams_completed:
            found.append("no honest stream completed")
        if self.probe_p99_ms - self.machine_p99_ms > self.probe_bound_ms:
            found.append(f"probe p99 {self.probe_p99_ms:.0f} ms, of which the machine's {self.machine_p99_ms:.0f}")
        if self.memory_mb_over_idle > MEMORY_MB_OVER_IDLE:
            found.append(f"{self.memory_mb_over_idle:.0f} MB over idle")
        if self.given_back_s is None:
            found.append(f"not given back within {GIVEN_BACK_S:.0f} s")
        return found

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {**asdict(self), "misses": self.misses}
