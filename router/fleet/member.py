"""One worker as this router replica keeps it: facts, load, breaker, and the view made of them and its claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState, Load, ModelInstance
from router.domain.snapshot import NOBODY, Inflight, SetAside, WorkerView
from router.domain.worker import WorkerProfile, WorkerState
from router.fleet.breaker import Breaker
from router.fleet.model_rules import ModelRules, as_believed
from router.scheduling.claims import Claims


@dataclass(slots=True, kw_only=True)
class Member:
    """Mutable; only ``Membership`` changes it."""

    profile: WorkerProfile
    breaker: Breaker
    rules: ModelRules = field(default_factory=ModelRules)
    announced: dict[tuple[str, str], ModelInstance] = field(default_factory=dict)  # as it says; ``models``: as believed
    session_id: int = 0  # of the session that speaks for it now; 0: none
    state: WorkerState = WorkerState.ENROLLED
    models: dict[tuple[str, str], ModelInstance] = field(default_factory=dict)
    model_breakers: dict[tuple[str, str], Breaker] = field(default_factory=dict)  # of those something stands against
    drafting: dict[tuple[str, str], DraftReport] = field(default_factory=dict)  # by its own models
    files: tuple[ModelInstance, ...] = ()  # that could be loaded there
    progress: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)  # of loads: share done, in words
    used: dict[tuple[str, str], float] = field(default_factory=dict)  # when a request for a model last went through
    load: Load = field(default_factory=Load)
    rtt_s: float = 0.0
    away_reason: str = ""  # in its own words
    cordoned: bool = False
    lost_at: float | None = None
    lost_reason: str = ""

    @property
    def worker_id(self) -> WorkerId:
        """Shorthand for the profile's id."""
        return self.profile.worker_id

    @property
    def drafts(self) -> bool:
        """Whether it proposes tokens to others, and serves no requests."""
        return bool(self.profile.draft_address)

    def view(self, claims: Claims) -> WorkerView:
        """What everybody else sees of it now."""
        models = tuple(self.models.values())
        return WorkerView(
            profile=self.profile,
            state=self.state,
            models=() if self.drafts else models,
            drafts=models if self.drafts else (),
            drafting=tuple(self.drafting.values()),
            load=self.load,
            inflight=self._inflight(claims),
            rtt_s=self.rtt_s,
            away_reason=self.away_reason if self.state in (WorkerState.DRAINING, WorkerState.ASLEEP) else "",
            cordoned=self.cordoned,
            suspended_until=self.breaker.open_until,
            suspended_reason=self.breaker.reason,
            probing=self.breaker.probing,
            set_aside=self._set_aside(claims) if self.model_breakers else NOBODY,
        )

    def take(self, instance: ModelInstance) -> bool:
        """A model's news; False: it is unloaded, and nothing is kept of it."""
        key = (instance.model, instance.quantization)
        if instance.state is not InstanceState.READY:  # what is loaded anew has failed nobody yet
            self.model_breakers.pop(key, None)
        if instance.state is InstanceState.UNLOADED:
            self.models.pop(key, None)
            self.drafting.pop(key, None)
            self.announced.pop(key, None)
            self.progress.pop(key, None)
            self.used.pop(key, None)
            return False
        self.announced[key] = _keep_facts(self.announced.get(key), instance)
        self.believe(key)
        return True

    def believe(self, key: tuple[str, str]) -> None:
        """Take the model as the rest of the router may: by what the machine can do and the operator's rules."""
        self.models[key] = as_believed(self.announced[key], self.profile.hardware, self.rules)

    def model_summary(self) -> str:
        """Which lifecycle stage the models are in: ready wins, then benchmarking, loading, failed."""
        states = {instance.state for instance in self.models.values()}
        if InstanceState.FETCHING in states:  # a long way to load it, seen from here
            states.add(InstanceState.LOADING)
        order = (InstanceState.READY, InstanceState.BENCHMARKING, InstanceState.LOADING, InstanceState.FAILED)
        for state in order:
            if state in states:
                return state.value
        return "none"

    def forget_load(self) -> None:
        """The session is gone: its load means nothing now."""
        self.load = replace(self.load, running=0, waiting=0, prefill_tokens_pending=0, context_tokens=0, kv_used=0.0)

    def _set_aside(self, claims: Claims) -> Mapping[tuple[str, str], SetAside]:
        return {
            key: SetAside(
                until=breaker.open_until, reason=breaker.reason, proving=claims.count_of(self.worker_id, *key) > 0
            )
            for key, breaker in self.model_breakers.items()
        }

    def _inflight(self, claims: Claims) -> Inflight:
        """What its load does not show. While it has to prove itself its own word on what it runs counts for nothing: a
        worker that claims to be idle would be sent one proof after the other.
        """
        inflight = claims.inflight(self.worker_id)
        placed = claims.count(self.worker_id) if self.breaker.probing else 0
        return inflight if placed <= inflight.requests else replace(inflight, requests=placed)


def _keep_facts(known: ModelInstance | None, news: ModelInstance) -> ModelInstance:
    """A progress report may leave out facts reported earlier."""
    if known is None or news.context_tokens:
        return news
    return replace(known, state=news.state, error=news.error, speed=news.speed or known.speed)
