"""The router's configuration: one frozen tree, read once, from a TOML file and flags.

Unknown keys are refused with the nearest valid name, values outside their bounds with the bounds: before anything
starts. Every bound the router lives by has its place here.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from router.errors import ConfigError

LOG_LEVELS = ("debug", "info", "warning", "error")

_Port = Annotated[int, Meta(ge=0, le=65535)]  # 0: any that is free
_Count = Annotated[int, Meta(ge=0)]
_AtLeastOne = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(gt=0)]
_NotNegative = Annotated[float, Meta(ge=0)]
_Positive = Annotated[float, Meta(gt=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Name = Annotated[str, Meta(min_length=1)]


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model is sampled where a request says nothing; what is left out is the model's own matter."""

    temperature: Annotated[float, Meta(ge=0, le=5)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: _Count | None = None  # 0: off
    min_p: _Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    max_tokens: _AtLeastOne | None = None  # of chats that set no limit


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The OpenAI-compatible endpoint."""

    host: _Name = "127.0.0.1"  # "node": of every Ray node the address by which Ray knows it
    port: _Port = 8000
    health_port: _Port | None = None  # /healthz and /readyz also there, plus the replica's rank; none: only above
    connections_limit: _AtLeastOne = 16_384  # of clients; at it those that say nothing for longest give way
    body_limit_bytes: _AtLeastOne = 8 * 1024 * 1024
    bodies_limit_bytes: _AtLeastOne = 64 * 1024 * 1024  # all requests' together, until each has its answer
    body_deadline_s: _Seconds = 30.0
    stall_s: _Seconds = 30.0  # a client that reads nothing for so long is cut off
    request_deadline_s: _Seconds = 600.0  # from arrival to the last token
    sign_of_life_s: _Seconds = 10.0  # between two comments on a stream that has no token yet
    unknown_fields: Literal["ignore", "refuse"] = "ignore"  # of requests; ignored ones are named in a header
    cors_origins: list[_Name] = []  # pages that may use the endpoint from a browser, beside those of this machine
    allowed_hosts: list[
        _Name
    ] = []  # names under which it answers without keys, beside this machine's own; .domain: all
    image_hosts: list[_Name] = []  # where images of requests are fetched from by http(s); .domain, "*"; none: nowhere
    image_fetch_s: _Seconds = 10.0  # for all images of one request
    responses_kept_s: _NotNegative = 3600.0  # how long answers of the Responses API stay to be gone on from; 0: none
    responses_limit_bytes: _AtLeastOne = 64 * 1024 * 1024  # all of them together, in the store
    sampling: dict[str, SamplingConfig] = {}  # model, or "*" for all -> defaults, before those of the model's file
    quality_floors: dict[str, str] = {}  # model -> lowest quantization, for requests that name none, e.g. "q6_k"


class GrpcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where workers dial. Session ports are ``port`` plus the router replica's rank."""

    host: _Name = "127.0.0.1"  # "node": of every Ray node the address by which Ray knows it
    port: _Port = 8100
    enrol_port: _Port = 8099  # where machines without a certificate join; unused on plain loopback
    install_port: _Port = 8098  # where machines that have nothing but Python get this version; unused on plain loopback
    advertised_host: str = ""  # what workers are told to dial; empty: host
    plain_loopback: bool = True  # no TLS while everything stays on loopback


class FleetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions, failure detection and draining. Seconds."""

    ping_interval_s: _Seconds = 0.5
    silence_s: _Seconds = 2.5  # a session that says nothing for so long is lost
    deaf_s: _Seconds = 15.0  # a worker that speaks and answers no ping for so long does not read
    hang_s: _Seconds = 3.0  # an engine that shows no step for so long, with work to do, hangs
    hang_factor: _Positive = 8.0  # ... or for so many of its own recent steps, if that is longer
    load_interval_s: _NotNegative = 0.05  # least time between two load reports of a worker
    gone_after_s: _Seconds = 600.0  # how long a lost worker stays in the fleet table
    breaker_first_s: _Seconds = 1.0
    breaker_longest_s: _Seconds = 30.0
    max_workers: _AtLeastOne = 4096
    drain_deadline_s: _NotNegative = 30.0


class DispatchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempts at a request."""

    max_attempts: _AtLeastOne = 6  # in a row that bring no token
    max_moves: _Count = 32  # of one stream, however well it goes on in between
    accept_deadline_s: _Seconds = 30.0  # from sending a request to the worker's exact count
    answer_limit_bytes: _AtLeastOne = 32 * 1024 * 1024  # what one worker may answer one request with
    answers_limit_bytes: _AtLeastOne = 128 * 1024 * 1024  # all answers under way together: past it the largest ends
    return_token_ids: bool = True  # lets a continuation on the same tokenizer start from the very tokens


class TenantConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant's share of what there is. A tenant is the name of its keys."""

    weight: _Positive = 1.0  # 2 gets twice the tokens of 1 when both want more than there is
    queue_limit: _AtLeastOne | None = None  # its requests waiting; none: only the limit over all
    tokens_per_minute: _Positive | None = None  # prompt and expected output together, all its keys together


class AdmissionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The queue in front of placement."""

    queue_limit: _AtLeastOne = 1024
    patience_s: _Seconds = 20.0  # how long a request waits for a worker of its model to come back
    longest_wait_s: _Seconds = 60.0  # in the queue, for requests without a TTFT target or a nearer deadline
    depth_per_slot: _NotNegative = 0.125  # requests waiting inside an engine, per slot, before the router holds them
    default_tenant: TenantConfig = msgspec.field(default_factory=TenantConfig)
    tenants: dict[str, TenantConfig] = {}  # those with limits of their own, by the name of their keys


class PlacementConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker is chosen."""

    policy: str = "cost"  # one of router.scheduling.placement.policies
    seed: int = 0
    record_capacity: _Count = 4096
    record_sample: _Share = 1.0
    record_file: str = ""  # where records are kept on disk too, as JSON lines; empty: in memory only
    lambda_slo: _NotNegative = 10.0  # seconds one accepts to avoid a second of predicted SLO miss
    lambda_quality: _NotNegative = 0.0  # seconds one accepts to avoid 1% perplexity


class FilesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models' files on their way between machines."""

    models_dir: str = ""  # what the head itself hands out; empty: models beside the state
    relay_bytes_per_s: _NotNegative = 64.0 * 2**20  # of all files that pass through this replica; 0: no bound


class ServeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Ray Serve makes of the router's replicas."""

    replicas_most: _Count = 0  # up to so many come and go by load; 0: as many as ``replicas`` says, always
    requests_each: _Positive = 128.0  # requests under way per replica that Serve aims at
    drain_s: _Seconds = 60.0  # streams of a replica that goes have so long to end
    labels: dict[str, str] = {}  # of the Ray nodes where replicas run; none: anywhere
    per_node: _Count = 0  # replicas on one node at most; 0: any number


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a router replica is told."""

    http: HttpConfig = msgspec.field(default_factory=HttpConfig)
    grpc: GrpcConfig = msgspec.field(default_factory=GrpcConfig)
    fleet: FleetConfig = msgspec.field(default_factory=FleetConfig)
    dispatch: DispatchConfig = msgspec.field(default_factory=DispatchConfig)
    admission: AdmissionConfig = msgspec.field(default_factory=AdmissionConfig)
    placement: PlacementConfig = msgspec.field(default_factory=PlacementConfig)
    files: FilesConfig = msgspec.field(default_factory=FilesConfig)
    serve: ServeConfig = msgspec.field(default_factory=ServeConfig)
    state_dir: str = ""  # empty: the system's place for application data
    replicas: _AtLeastOne = 1
    log_level: str = "info"  # one of LOG_LEVELS


def load_config(path: Path | None = None, overrides: dict[str, Any] | None = None) -> RouterConfig:
    """Read ``path`` (TOML) and lay ``overrides`` (nested dicts, as flags gave them) over it.

    Raises ConfigError naming the file and key when something is wrong.
    """
    tree: dict[str, Any] = {}
    where = "flags"
    if path is not None:
        where = str(path)
        try:
            tree = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
    _merge(tree, overrides or {}, where, prefix="")
    _reject_unknown(tree, RouterConfig, where, prefix="")
    try:
        config = msgspec.convert(tree, RouterConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), tree)}") from None
    wrong = next(_wrong(config, tree), None)
    if wrong is not None:
        raise ConfigError(f"{where}: {wrong}")
    return config


def _merge(into: dict[str, Any], extra: dict[str, Any], where: str, prefix: str) -> None:
    for key, value in extra.items():
        if isinstance(value, dict):
            inner = into.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{where}: '{prefix}{key}' is a section of its own: write [{prefix}{key}]")
            _merge(inner, value, where, f"{prefix}{key}.")
        else:
            into[key] = value


def _reject_unknown(tree: dict[str, Any], struct: type[msgspec.Struct], where: str, prefix: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in tree.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; valid keys: {', '.join(sorted(fields))}"
            raise ConfigError(f"{where}: unknown key '{prefix}{key}'{hint}")
        for name, inner, kind in _sections(key, value, fields[key]):
            _reject_unknown(inner, kind, where, f"{prefix}{name}.")


def _sections(key: str, value: Any, kind: Any) -> Iterator[tuple[str, dict[str, Any], type[msgspec.Struct]]]:
    """Tables in ``value`` that are structs: itself, or each entry of a table of them."""
    if not isinstance(value, dict):
        return
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield key, value, kind
    elif get_origin(kind) is dict:
        for name, inner in value.items():
            yield from _sections(f"{key}.{name}", inner, get_args(kind)[1])


_WHERE = re.compile(r"(.*) - at `\$\.?(.*)`$", re.DOTALL)
_BOUND = re.compile(r"`(\w+)` (>=|<=|>|<) (\S+)")
_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}


def _explain(problem: str, tree: dict[str, Any]) -> str:
    """The key, what it is, and what it may be."""
    found = _WHERE.match(problem)
    if found is None:
        return problem
    what, path = found.groups()
    value: Any = tree
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    is_ = "" if value is None else f" is {value!r}:"
    what = _BOUND.sub(lambda bound: f"{_BOUNDS[bound[2]]} {bound[3].removesuffix('.0')}", what)
    return f"'{path}'{is_} {what[:1].lower()}{what[1:].replace('`', '')}"


def _wrong(config: RouterConfig, tree: dict[str, Any]) -> Iterator[str]:
    """What the types do not say."""
    for path, value in _numbers(tree, ""):
        if math.isnan(value) or (math.isinf(value) and path != "admission.depth_per_slot"):
            yield f"'{path}' is {value}: write a finite number"
    if config.log_level not in LOG_LEVELS:
        yield f"'log_level' is '{config.log_level}': there are {', '.join(LOG_LEVELS)}"
    most = config.serve.replicas_most
    if most and most < config.replicas:
        yield f"'serve.replicas_most' is {most}: at least 'replicas', {config.replicas}; 0 for a fixed number"
    last = config.grpc.port + max(config.replicas, most) - 1
    if config.grpc.port and last > 65535:  # session ports are the port plus the rank
        replicas = max(config.replicas, most)
        yield f"'grpc.port' is {config.grpc.port}: with {replicas} replicas the last would listen on {last}"


def _numbers(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            yield f"{prefix}{key}", value
