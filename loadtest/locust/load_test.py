"""A load test in a locust process: alone, as the master that reports, or as a worker that generates.

The master (or the lone process) asks the endpoint what it is, tells every worker its share and the moment to begin, and
gathers their samples, which ride on locust's own reports. It alone writes files.
"""

import sys
import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event
from locust.runners import MasterRunner, WorkerRunner

from loadtest.locust.conductor import Conductor, Share
from loadtest.locust.endpoint import facts
from loadtest.locust.endpoint.client import Endpoint
from loadtest.locust.endpoint.conversation import FEATURES
from loadtest.locust.options import BadOptions, Options, read_options
from loadtest.locust.recorder import Recorder
from loadtest.locust.report import write_report
from loadtest.locust.report.run import RunFacts
from loadtest.locust.sample import Sample
from loadtest.locust.watch import Second, Watch

START, STOP = "allsorts-start", "allsorts-stop"
HEAD_START_S = 1.0, 4.0
"""Seconds before the first request is due, alone and with workers: each has its share and its users by then."""
READY_WITHIN_S = 60.0
_REPORT = "allsorts"


class LoadTest:
    """Hooked into one locust environment."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._reports = not isinstance(self._runner, WorkerRunner)
        self._generates = not isinstance(self._runner, MasterRunner)
        self._started = Event()
        self._conductor: Conductor | None = None
        self._watch: Watch | None = None
        self._recorder: Recorder | None = None
        self._facts: RunFacts | None = None
        self._waiting: list[Sample] = []  # to ride on a worker's next report
        self._others: dict[str, dict[str, Any]] = {}  # workers' last words, by client
        self._began = 0.0
        self._armed = False  # locust asks how many users there are to be before it says that the test starts
        events = environment.events
        events.test_start.add_listener(self._on_start)
        events.test_stop.add_listener(self._on_stop)
        events.report_to_master.add_listener(self._on_report)
        events.worker_report.add_listener(self._on_worker_report)
        if isinstance(self._runner, WorkerRunner):
            self._runner.register_message(START, self._on_share)
            self._runner.register_message(STOP, self._on_over)

    def conductor(self) -> Conductor:
        """Of the run under way; waits for its start."""
        if not self._started.wait(READY_WITHIN_S) or self._conductor is None:
            raise RuntimeError("no run has started")
        return self._conductor

    # -- the shape's questions, in the process that reports ---------------------------------------------

    def arm(self) -> None:
        """A run is about to start."""
        self._armed = True

    def users(self) -> int | None:
        """How many locust users there are to be now; None: the run is over."""
        if self._facts is None:
            return 1 if self._armed else None
        options = self._facts.options
        second = time.perf_counter() - self._began
        shape = options.load_shape
        ended = second >= shape.length_s
        if not ended and self._recorder is not None and self._recorder.beyond_the_knee(second):
            self._tell_over()
            ended = True
        if (ended and self._idle()) or second > shape.length_s + options.drain_s:
            return None
        return max(round(shape.rate_at(second)), 1) if options.closed else self._processes()

    def _processes(self) -> int:
        return 1 if self._generates else max(len(self._runner.clients.ready + self._runner.clients.running), 1)

    def _idle(self) -> bool:
        if self._conductor is not None:
            return self._conductor.idle
        return bool(self._others) and all(said["idle"] for said in self._others.values())

    def _tell_over(self) -> None:
        if self._conductor is not None:
            self._conductor.over = True
        elif isinstance(self._runner, MasterRunner):
            self._runner.send_message(STOP, {})

    # -- locust's events --------------------------------------------------------------------------------

    def _on_start(self, **_: Any) -> None:
        """Before any user lives, in every process: those that report begin the run."""
        if not self._reports:
            return
        try:
            self._start()
        finally:
            self._armed = False  # not before: locust goes on asking how many users there are to be

    def _start(self) -> None:
        try:
            options = read_options(self._environment.parsed_options, self._environment.host)
            self._facts = self._look_at(options)
        except (BadOptions, OSError, TimeoutError) as error:
            sys.stderr.write(f"load test: {error}\n")
            self._environment.process_exit_code = 2
            self._facts = None
            gevent.spawn(self._runner.quit)
            return
        self._recorder = Recorder(Path(self._facts.folder), options.load_shape, options.slo)
        self._others = {}
        head_start_s = HEAD_START_S[0 if self._generates else 1]
        begins_at = time.time() + head_start_s
        self._began = time.perf_counter() + head_start_s
        word = {
            "options": msgspec.to_builtins(options),
            "model": self._facts.model,
            "refused": sorted(self._facts.refused),
            "begins_at": begins_at,
        }
        if self._generates:
            self._begin(word, Share())
            return
        clients = [client.id for client in self._runner.clients.ready]
        for index, client in enumerate(clients):
            self._runner.send_message(START, {**word, "share": [index, len(clients)]}, client_id=client)

    def _on_share(self, msg: Any, **_: Any) -> None:
        self._begin(msg.data, Share(*msg.data["share"]))

    def _on_over(self, **_: Any) -> None:
        if self._conductor is not None:
            self._conductor.over = True

    def _begin(self, word: dict[str, Any], share: Share) -> None:
        options = msgspec.convert(word["options"], Options)
        conductor = Conductor(
            options,
            Endpoint(options.url, api_key=options.api_key, deadline_s=options.deadline_s),
            model=word["model"],
            refused=frozenset(word["refused"]),
            share=share,
            began=time.perf_counter() + word["begins_at"] - time.time(),
            record=self._on_sample,
        )
        self._conductor = conductor
        self._watch = Watch(share.index, conductor.now, lambda: (conductor.in_flight, conductor.unsent))
        self._started.set()

    def _on_sample(self, sample: Sample) -> None:
        """A request of this process ended: to locust's own statistics, and to where it is kept."""
        fire = self._environment.events.request.fire
        name, failed = sample.kind, RuntimeError(f"{sample.code}: {sample.error}") if sample.error else None
        fire(request_type="E2E", name=name, response_time=1000.0 * sample.e2e_s,
             response_length=sample.completion_tokens, exception=failed, context={})  # fmt: skip
        if not failed:
            for kind, seconds in (("TTFT", sample.ttft_s), ("TPOT", sample.tpot_s)):
                if seconds is not None:
                    fire(request_type=kind, name=name, response_time=1000.0 * seconds, response_length=0,
                         exception=None, context={})  # fmt: skip
        if self._recorder is not None:
            self._recorder.sample(sample)
        else:
            self._waiting.append(sample)

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        """A worker reports."""
        if self._conductor is None or self._watch is None:
            return
        samples, self._waiting = self._waiting, []
        data[_REPORT] = {
            "samples": msgspec.to_builtins(samples),
            "watched": msgspec.to_builtins(self._watch.take()),
            "idle": self._conductor.idle,
        }

    def _on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        said = data.pop(_REPORT, None)
        if said is None or self._recorder is None:
            return
        for sample in msgspec.convert(said.pop("samples"), list[Sample]):
            self._recorder.sample(sample)
        self._recorder.watched += msgspec.convert(said.pop("watched"), list[Second])
        self._others[client_id] = said

    def _on_stop(self, **_: Any) -> None:
        """The run is over: what still runs is cut off, and whoever reports writes the report."""
        if self._conductor is not None:
            self._conductor.cut_off()
        if self._watch is not None:
            self._watch.stop()
        self._started.clear()
        if self._recorder is None or self._facts is None:
            self._conductor = None
            return
        if self._watch is not None:
            self._recorder.watched += self._watch.take()
        self._recorder.close()
        self._conductor = None
        options, self._facts.watched = self._facts.options, self._recorder.watched
        endpoint = Endpoint(options.url, api_key=options.api_key)
        self._facts.router_after = facts.router_sums(endpoint)
        self._facts.fleet = facts.fleet(endpoint) or self._facts.fleet
        self._facts.lasted_s = round(time.perf_counter() - self._began, 3)
        sys.stdout.write(write_report(self._facts, self._recorder.folder))
        sys.stdout.flush()
        self._facts = self._recorder = None

    def _look_at(self, options: Options) -> RunFacts:
        """Ask the endpoint what it is. Raises OSError when it does not answer."""
        endpoint = Endpoint(options.url, api_key=options.api_key, deadline_s=min(options.deadline_s, 60.0))
        listed = endpoint.models()
        model = options.model or next(iter(listed), "")
        if not model:
            raise OSError(f"{options.url} lists no model: does a server run there? Else name one with --model")
        wanted = frozenset(FEATURES) if options.workload in ("agent-like", "json-extraction", "mix") else {"ignore_eos"}
        refused = facts.refused_features(endpoint, model, frozenset(wanted))
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = (options.trace.stem if options.trace else options.workload) + f"-{options.shape}"
        return RunFacts(
            options=options,
            folder=options.out or f"build/loadtest/{name}-{stamp}",
            label=options.label or f"{name}-{stamp}",
            model=model,
            started_at=time.strftime("%Y-%m-%d %H:%M:%S"),
            refused=refused,
            router_before=facts.router_sums(endpoint),
            fleet=facts.fleet(endpoint),
        )
