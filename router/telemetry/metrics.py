"""What Prometheus may scrape: requests, times, tokens and the fleet. Counted per request, never per token.

Label values come from workers and from us, not from clients: a model no worker ever served is counted as "unknown".
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from protos.contract.stream import Usage
from router.domain.snapshot import FleetSnapshot
from router.domain.worker import WorkerState
from router.telemetry.process_gauges import ProcessGauges

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

_TTFT_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 60.0)
_TPOT_S = (0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.2, 0.5, 1.0)
_E2E_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0)
_STALL_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_DECISION_S = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1)

_Labels = ["model", "quantization"]


class Metrics:
    """One router replica's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self._requests = Counter(
            "allsorts_requests", "Requests that ended, by HTTP status", [*_Labels, "status"], registry=own
        )
        self._ttft = Histogram(
            "allsorts_ttft_seconds", "Receipt to first token sent", _Labels, buckets=_TTFT_S, registry=own
        )
        self._tpot = Histogram(
            "allsorts_tpot_seconds", "(E2E - TTFT) / (tokens - 1)", _Labels, buckets=_TPOT_S, registry=own
        )
        self._e2e = Histogram("allsorts_e2e_seconds", "Receipt to the end", _Labels, buckets=_E2E_S, registry=own)
        self._prompt = Counter("allsorts_prompt_tokens", "Prompt tokens of answered requests", _Labels, registry=own)
        self._cached = Counter("allsorts_cached_tokens", "Prompt tokens found in a cache", _Labels, registry=own)
        self._output = Counter("allsorts_output_tokens", "Output tokens", _Labels, registry=own)
        self._shed = Counter("allsorts_shed", "Requests refused before dispatch, by reason", ["reason"], registry=own)
        self._continued = Counter(
            "allsorts_continued",
            "Streams that moved to another worker",
            ["from_quantization", "to_quantization"],
            registry=own,
        )
        self._conflicts = Counter(
            "allsorts_conflicts",
            "Placements whose condition did not hold at the worker: another replica had been there",
            _Labels,
            registry=own,
        )
        self._keys_refused = Counter(
            "allsorts_keys_refused", "Requests refused for their API key, by reason", ["reason"], registry=own
        )
        self._stalls = Histogram(
            "allsorts_loop_stall_seconds", "Steps that held the event loop", buckets=_STALL_S, registry=own
        )
        self._records_lost = Counter("allsorts_records_lost", "Decision records the disk did not take", registry=own)
        self._decision = Histogram(
            "allsorts_placement_seconds", "Time to decide a placement", buckets=_DECISION_S, registry=own
        )

    def request_ended(
        self,
        *,
        model: str,
        quantization: str,
        status: str,
        e2e_s: float,
        ttft_s: float | None = None,
        usage: Usage | None = None,
    ) -> None:
        """A request ended; ``status`` is its HTTP status, "aborted" or "broken". Without ``ttft_s`` no token came."""
        self._requests.labels(model, quantization, status).inc()
        if ttft_s is not None:
            self._ttft.labels(model, quantization).observe(ttft_s)
        if usage is None:
            return
        self._prompt.labels(model, quantization).inc(usage.prompt_tokens)
        self._cached.labels(model, quantization).inc(usage.cached_tokens)
        self._output.labels(model, quantization).inc(usage.completion_tokens)
        if status == "200":
            self._e2e.labels(model, quantization).observe(e2e_s)
            if ttft_s is not None and usage.completion_tokens > 1:
                self._tpot.labels(model, quantization).observe((e2e_s - ttft_s) / (usage.completion_tokens - 1))

    def shed(self, reason: str) -> None:
        """A request was refused before dispatch; ``reason`` is the error's code."""
        self._shed.labels(reason).inc()

    def continued(self, from_quantization: str, to_quantization: str) -> None:
        """A stream moved to another worker."""
        self._continued.labels(from_quantization, to_quantization).inc()

    def conflict(self, model: str, quantization: str) -> None:
        """A worker found the condition of a placement broken; the request is placed again."""
        self._conflicts.labels(model, quantization).inc()

    def key_refused(self, reason: str) -> None:
        """A request's API key was none, or lacked what it asked for; ``reason`` is the error's code."""
        self._keys_refused.labels(reason).inc()

    def loop_stalled(self, seconds: float) -> None:
        """One step held the event loop for so long."""
        self._stalls.observe(seconds)

    def record_lost(self) -> None:
        """A decision record could not be written. May be called from any thread."""
        self._records_lost.inc()

    def placement_decided(self, seconds: float) -> None:
        """One placement took so long to decide."""
        self._decision.observe(seconds)

    def watch_fleet(self, snapshot: Callable[[], FleetSnapshot]) -> None:
        """Show the fleet's gauges, read when scraped. Once per Metrics."""
        self.registry.register(_FleetGauges(snapshot))

    def watch_process(self, *, requests: Callable[[], int], claims: Callable[[], int]) -> None:
        """Show what this process holds, read when scraped. Once per Metrics."""
        self.registry.register(ProcessGauges(requests=requests, claims=claims))
        ProcessCollector(registry=self.registry)

    def render(self) -> bytes:
        """The text Prometheus reads; its type is ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


class _FleetGauges(Collector):
    def __init__(self, snapshot: Callable[[], FleetSnapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Names only: registering must not read the fleet."""
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        """One sample per worker and gauge."""
        families = self._families()
        for view in self._snapshot().workers:
            node, load = view.profile.node, view.load
            families["running"].add_metric([node], load.running)
            families["waiting"].add_metric([node], load.waiting)
            families["inflight"].add_metric([node], view.inflight.requests)
            families["kv"].add_metric([node], load.kv_used)
            families["speed"].add_metric([node], load.tokens_per_s)
            for outcome, tokens in (("proposed", load.draft_proposed), ("accepted", load.draft_accepted)):
                families["draft"].add_metric([node, outcome], tokens)
            for report in view.drafting:
                pair = [node, report.model, report.draft_worker_id]
                for outcome, count in (("proposed", report.proposed), ("accepted", report.accepted)):
                    families["pair"].add_metric([*pair, outcome], count)
                families["late"].add_metric(pair, report.late)
                families["wasted"].add_metric(pair, report.wasted_s)
                families["gain"].add_metric([*pair, "predicted"], report.predicted_gain)
                families["gain"].add_metric([*pair, "measured"], report.measured_gain)
                families["paused"].add_metric(pair, float(bool(report.paused)))
            families["cordoned"].add_metric([node], float(view.cordoned))
            for state in WorkerState:
                families["state"].add_metric([node, state.value], float(view.state is state))
        yield from families.values()

    @staticmethod
    def _families() -> dict[str, GaugeMetricFamily]:
        node, pair = ["node"], ["node", "model", "draft"]
        return {
            "running": GaugeMetricFamily("allsorts_worker_running", "Requests running", labels=node),
            "waiting": GaugeMetricFamily("allsorts_worker_waiting", "Requests waiting at the worker", labels=node),
            "inflight": GaugeMetricFamily("allsorts_worker_inflight", "Dispatched, not yet reported", labels=node),
            "kv": GaugeMetricFamily("allsorts_worker_kv_used_ratio", "KV cache in use, 0 to 1", labels=node),
            "speed": GaugeMetricFamily("allsorts_worker_tokens_per_second", "Output tokens per second", labels=node),
            "draft": GaugeMetricFamily(
                "allsorts_worker_draft_tokens", "Speculated since its start", labels=[*node, "outcome"]
            ),
            "pair": GaugeMetricFamily(
                "allsorts_draft_tokens", "A draft's tokens verified, since it was assigned", labels=[*pair, "outcome"]
            ),
            "late": GaugeMetricFamily("allsorts_draft_late_rounds", "Rounds whose proposals were late", labels=pair),
            "wasted": GaugeMetricFamily("allsorts_draft_wasted_seconds", "Of tokens not accepted", labels=pair),
            "gain": GaugeMetricFamily(
                "allsorts_draft_gain_ratio", "Tokens a second against plain steps", labels=[*pair, "kind"]
            ),
            "paused": GaugeMetricFamily("allsorts_draft_paused", "1: the draft is not asked now", labels=pair),
            "cordoned": GaugeMetricFamily("allsorts_worker_cordoned", "1: takes nothing new", labels=node),
            "state": GaugeMetricFamily("allsorts_worker_state", "1 for the state it is in", labels=[*node, "state"]),
        }
