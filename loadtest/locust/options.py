"""A load test's settings: from locust's command line (or its web page) to one checked value that travels to workers."""

import ipaddress
import os
from argparse import Namespace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from loadtest.locust.sample import Slo
from loadtest.locust.shapes import SHAPES, Shape
from loadtest.locust.workloads import WORKLOADS
from loadtest.locust.workloads.sessions import Sizes

LONGEST_RUN_S = 6 * 3600.0
MOST_REQUESTS_PER_S = 10_000.0


class BadOptions(Exception):
    """A setting is wrong: which, and what to write instead."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a generator needs to know. Seconds, tokens, requests a second."""

    url: str
    model: str = ""  # empty: the first that the endpoint lists
    workload: str = "azure-like"  # a name, or a trace's path
    speed_up: float = 1.0  # of a trace
    shape: str = "steady"
    rate: float = 1.0
    peak: float = 4.0
    duration_s: float = 60.0
    steps: int = 6
    closed: int = 0  # users of a closed loop; 0: open loop
    seed: int = 1
    scale: float = 1.0
    longest_prompt: int = 12_000
    longest_output: int = 2_000
    slo_ttft_s: float = 2.0
    slo_ttft_per_prompt_token_s: float = 0.001
    slo_tpot_s: float = 0.1
    slo_e2e_s: float = 0.0
    tell_slo: bool = False
    max_in_flight: int = 2000  # of each process
    deadline_s: float = 300.0
    drain_s: float = 60.0
    temperature: float = 0.0
    ignore_eos: bool = True
    label: str = ""
    out: str = ""
    api_key: str = ""

    @property
    def trace(self) -> Path | None:
        """The trace's file, if the workload is one."""
        return None if self.workload in WORKLOADS else Path(self.workload)

    @property
    def load_shape(self) -> Shape:
        """How the load changes. A trace has its own times: there it only says how long the run is."""
        if self.closed:
            return SHAPES[self.shape](self.closed, max(self.peak, 1.0), self.duration_s, self.steps)
        return SHAPES[self.shape](self.rate, self.peak, self.duration_s, self.steps)

    @property
    def sizes(self) -> Sizes:
        """Bounds of drawn lengths."""
        return Sizes(scale=self.scale, longest_prompt=self.longest_prompt, longest_output=self.longest_output)

    @property
    def slo(self) -> Slo:
        """What counts as in time; a target of 0 is none."""
        return Slo(
            ttft_s=self.slo_ttft_s or None,
            ttft_per_prompt_token_s=self.slo_ttft_per_prompt_token_s,
            tpot_s=self.slo_tpot_s or None,
            e2e_s=self.slo_e2e_s or None,
        )


_HELP: dict[str, str] = {
    "model": "model to ask for; empty: the first that the endpoint lists",
    "workload": f"{', '.join(WORKLOADS)}, or a trace's path: Azure .csv, Mooncake .jsonl",
    "speed_up": "play a trace so many times as fast",
    "shape": f"{', '.join(SHAPES)}: how the load changes over the run",
    "rate": "requests a second; of a ramp, a spike and a day the least",
    "peak": "of a ramp, a spike and a day the most: requests a second, or users in a closed loop",
    "duration_s": "seconds in which requests are offered",
    "steps": "of a ramp",
    "closed": "closed loop with so many users, each sending when it has its answer; 0: open loop, on schedule",
    "seed": "draws everything: the same seed sends the same",
    "scale": "multiplies every drawn length; below 1 for a small model or a slow machine",
    "longest_prompt": "tokens",
    "longest_output": "tokens",
    "slo_ttft_s": "seconds to the first token; 0: no target",
    "slo_ttft_per_prompt_token_s": "seconds added to it for each prompt token",
    "slo_tpot_s": "seconds per output token; 0: no target",
    "slo_e2e_s": "seconds to the end; 0: no target",
    "tell_slo": "send the targets along (`slo`), to an endpoint that knows the field",
    "max_in_flight": "requests one process has open at most; what is due beyond is counted and not sent",
    "deadline_s": "seconds one request may take",
    "drain_s": "seconds that are waited for answers once nothing more is sent",
    "temperature": "0: greedy",
    "ignore_eos": "answers get as long as they were drawn (no: the model ends them)",
    "label": "the run's name in reports",
    "out": "folder of the run; empty: build/loadtest/WORKLOAD-SHAPE-TIME",
    "api_key": "sent as Bearer; better set ALLSORTS_API_KEY",
}


def flag(name: str) -> str:
    """``slo_ttft_s`` as it is written on a command line."""
    return "--" + name.removesuffix("_s").replace("_", "-")


def add_arguments(parser: Any) -> None:
    """Adds them to locust's parser: its web page shows them as well."""
    for field in msgspec.structs.fields(Options):
        if field.name == "url":
            continue
        kind: Any = _boolean if field.type is bool else field.type
        secret = {"is_secret": True, "env_var": "ALLSORTS_API_KEY"} if field.name == "api_key" else {}
        parser.add_argument(flag(field.name), dest=_destination(field.name), type=kind, default=field.default,
                           help=_HELP[field.name], **secret)  # fmt: skip
    parser.add_argument(
        "--allow-remote", dest="at_remote", action="store_true", help="also load a server that is not this machine"
    )


def read_options(parsed: Namespace, host: str | None) -> Options:
    """What was asked for, checked. Raises BadOptions."""
    names = [field.name for field in msgspec.structs.fields(Options) if field.name != "url"]
    given = {name: getattr(parsed, _destination(name)) for name in names}
    given["api_key"] = given["api_key"] or os.environ.get("ALLSORTS_API_KEY", "")
    options = Options(url=(host or "http://127.0.0.1:8000").rstrip("/"), **given)
    check(options, allow_remote=bool(parsed.at_remote))
    return options


def check(options: Options, *, allow_remote: bool) -> None:
    """Raises BadOptions with the first thing that is wrong."""
    parts = urlsplit(options.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadOptions(f"{options.url!r} is no URL; write http://127.0.0.1:8000")
    if not allow_remote and not _is_loopback(parts.hostname):
        raise BadOptions(
            f"{parts.hostname} is not this machine: a load test of somebody's server can take it down. "
            "If it is yours to load, add --allow-remote"
        )
    if options.trace is not None and options.trace.suffix not in (".csv", ".jsonl"):
        raise BadOptions(f"--workload {options.workload}: there are {', '.join(WORKLOADS)}, or a trace .csv or .jsonl")
    if options.shape not in SHAPES:
        raise BadOptions(f"--shape {options.shape}: there are {', '.join(SHAPES)}")
    for name in ("rate", "peak", "duration_s", "speed_up", "scale", "deadline_s", "longest_prompt", "longest_output"):
        if not getattr(options, name) > 0:
            raise BadOptions(f"{flag(name)} must be above 0")
    for name in ("slo_ttft_s", "slo_ttft_per_prompt_token_s", "slo_tpot_s", "slo_e2e_s", "closed", "drain_s"):
        if not getattr(options, name) >= 0:
            raise BadOptions(f"{flag(name)} must not be below 0")
    if options.duration_s > LONGEST_RUN_S or max(options.rate, options.peak) > MOST_REQUESTS_PER_S:
        raise BadOptions(f"at most {LONGEST_RUN_S:g} s at {MOST_REQUESTS_PER_S:g} requests/s: a run ends by itself")
    if not 1 <= options.steps <= 100 or not 1 <= options.max_in_flight <= 4000:
        raise BadOptions("--steps is 1 to 100, --max-in-flight 1 to 4000")


def _destination(name: str) -> str:
    return f"at_{name}"  # locust has options of its own


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "yes", "true", "on"):
        return True
    if text.lower() in ("0", "no", "false", "off", ""):
        return False
    raise ValueError(text)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
