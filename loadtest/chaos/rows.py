"""From streams and placements to the rows of the table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.chaos.streams import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One decision of the router: when (monotonic), and for which worker."""

    at: float
    worker_id: str
    newcomer: bool = False  # of a request that came while the streams ran


@dataclass(slots=True, kw_only=True)
class Row:
    """One fault, one engine. Seconds; ``None``: does not apply."""

    fault: str
    engine: str
    router: str = ""  # what it ran under
    streams: int  # in flight when it struck
    completed: int  # of those
    continued: int  # of those, on another worker
    failed_by_design: int
    tokens_wrong: int  # of all streams, lost, doubled or different
    longest_stall_s: float
    stop_placing_s: float | None
    later: int = 0  # streams that began after the strike
    later_completed: int = 0
    probes: int = 0  # placements on the victim after the router had noticed: half-open trials
    placed_before: int = 0  # newcomers sent to the victim just before the strike: where none went, none can stop
    expected: dict[str, float] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    longest_stall_of: str = ""  # whose it was
    failure: str = ""  # what did not come true, so that the row shows nothing
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def misses(self) -> list[str]:
        """What is not as it must be, in words."""
        if self.failure:
            return [self.failure]
        found = []
        if self.tokens_wrong:
            found.append(f"{self.tokens_wrong} tokens wrong")
        if self.completed + self.failed_by_design != self.streams or self.later_completed != self.later:
            found.append("streams failed")
        if "continued" in self.expected and not self.continued:
            found.append("nothing continued")
        if self.placed_before < self.expected.get("placed_before", 0.0):
            found.append("no newcomer went to the victim before, so that none stopped says nothing")
        if self.probes > self.expected.get("probes", self.probes):
            found.append(f"{self.probes} placements after it was noticed")
        for name in ("longest_stall_s", "stop_placing_s"):
            value, most = getattr(self, name), self.expected.get(name)
            if most is not None and value is not None and value > most:
                whose = f" ({self.longest_stall_of})" if name == "longest_stall_s" else ""
                found.append(f"{name} {value:.2f} above {most:g}{whose}")
        return found

    def as_json(self) -> dict[str, Any]:
        """For the figures file."""
        return asdict(self) | {"misses": self.misses}

    @classmethod
    def from_json(cls, figures: dict[str, Any]) -> "Row":
        """Back from the figures file."""
        return cls(**{name: value for name, value in figures.items() if name != "misses"})


def failed_row(fault: str, engine: str, router: str, failure: str) -> Row:
    """Of a scenario that did not come to its end."""
    return Row(
        fault=fault,
        engine=engine,
        router=router,
        streams=0,
        completed=0,
        continued=0,
        failed_by_design=0,
        tokens_wrong=0,
        longest_stall_s=0.0,
        stop_placing_s=None,
        failure=failure,
    )


def make_row(
    *,
    fault: str,
    engine: str,
    router: str,
    streams: Sequence[Stream],
    tokens_wrong: int,
    struck_at: float,
    fails_by_design: bool,
    stop: "Stop | None",
    expected: dict[str, float],
    notes: dict[str, Any],
) -> Row:
    """Count. A stream that was in flight at the strike of a fault that ends the router may fail by design."""
    flying = [one for one in streams if one.in_flight(struck_at)]
    later = [one for one in streams if one.sent_at > struck_at]
    by_design = [one for one in flying if not one.completed] if fails_by_design else []
    longest = max(
        (one for one in streams if one.completed), key=lambda one: one.longest_stall_s(struck_at), default=None
    )
    return Row(
        fault=fault,
        engine=engine,
        router=router,
        streams=len(flying),
        completed=sum(one.completed for one in flying),
        continued=sum(bool(one.moves) for one in flying),
        failed_by_design=len(by_design),
        tokens_wrong=tokens_wrong,
        longest_stall_s=0.0 if longest is None else round(longest.longest_stall_s(struck_at), 3),
        longest_stall_of="" if longest is None else longest.in_words(struck_at),
        stop_placing_s=None if stop is None else round(stop.seconds, 3),
        later=len(later),
        later_completed=sum(one.completed for one in later),
        probes=0 if stop is None else stop.probes,
        placed_before=0 if stop is None else stop.before,
        expected=expected,
        errors=sorted({one.error for one in streams if one.error and one not in by_design})[:5],
        notes=notes,
    )


def merged(kept: Sequence[Row], fresh: Sequence[Row], order: Sequence[str]) -> list[Row]:
    """Rows of earlier runs and of this one, which replaces those of its faults; ``order``: of the faults."""
    again = {row.fault for row in fresh}
    rows = [row for row in kept if row.fault not in again] + list(fresh)
    return sorted(rows, key=lambda row: order.index(row.fault) if row.fault in order else len(order))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How long after the strike the victim still got requests."""

    seconds: float
    probes: int
    before: int  # newcomers that went there before the strike


def stop_of(
    placements: Sequence[Placement], victim: str, struck_at: float, noticed_at: float | None, until: float
) -> Stop:
    """The last placement on the victim between the strike and when the fleet table showed it as out.

    After that, and until it came back (``until``), a breaker half-open sends one request at a time: probes.
    """
    after = [one.at for one in placements if one.worker_id == victim and struck_at < one.at < until]
    noticed = until if noticed_at is None else noticed_at
    unaware = [at for at in after if at <= noticed]
    before = sum(one.newcomer and one.worker_id == victim and one.at <= struck_at for one in placements)
    return Stop(seconds=max(unaware, default=struck_at) - struck_at, probes=len(after) - len(unaware), before=before)
