"""The router's configuration: one frozen tree, read once, from a TOML file and flags.

Unknown keys are refused with the nearest valid name. Every bound the router lives by has its place here.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigError


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The OpenAI-compatible endpoint."""

    host: str = "127.0.0.1"
    port: int = 8000
    body_limit_bytes: int = 8 * 1024 * 1024
    body_deadline_s: float = 30.0
    stall_s: float = 30.0  # a client that reads nothing for so long is cut off
    request_deadline_s: float = 600.0  # from arrival to the last token
    quality_floors: dict[str, str] = {}  # model -> lowest quantization, for requests that name none, e.g. "q6_k"


class GrpcConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where workers dial. Session ports are ``port`` plus the router replica's rank."""

    host: str = "127.0.0.1"
    port: int = 8100
    enrol_port: int = 8099  # where joiners without a certificate knock; unused on plain loopback
    advertised_host: str = ""  # what workers are told to dial; empty: host
    plain_loopback: bool = True  # no TLS while everything stays on loopback


class FleetConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions, failure detection and draining. Seconds."""

    ping_interval_s: float = 0.5
    silence_s: float = 2.5  # a session that says nothing for so long is lost
    deaf_s: float = 15.0  # a worker that speaks and answers no ping for so long does not read
    hang_s: float = 3.0  # an engine that shows no step for so long, with work to do, hangs
    hang_factor: float = 8.0  # ... or for so many of its own recent steps, if that is longer
    load_interval_s: float = 0.05  # least time between two load reports of a worker
    gone_after_s: float = 600.0  # how long a lost worker stays in the fleet table
    breaker_first_s: float = 1.0
    breaker_longest_s: float = 30.0
    max_workers: int = 4096
    drain_deadline_s: float = 30.0


class DispatchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempts at a request."""

    max_attempts: int = 6  # in a row that bring no token
    max_moves: int = 32  # of one stream, however well it goes on in between
    accept_deadline_s: float = 30.0  # from sending a request to the worker's exact count
    return_token_ids: bool = True  # lets a continuation on the same tokenizer start from the very tokens


class AdmissionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The queue in front of placement."""

    queue_limit: int = 1024
    patience_s: float = 20.0  # how long a request waits for a worker of its model to come back
    depth_per_slot: float = 0.125  # requests waiting inside an engine, per slot, before the router holds them


class PlacementConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker is chosen."""

    policy: str = "cost"
    seed: int = 0
    record_capacity: int = 4096
    record_sample: float = 1.0
    record_file: str = ""  # where records are kept on disk too, as JSON lines; empty: in memory only
    lambda_slo: float = 10.0  # seconds one accepts to avoid a second of predicted SLO miss
    lambda_quality: float = 0.0  # seconds one accepts to avoid 1% perplexity


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a router replica is told."""

    http: HttpConfig = msgspec.field(default_factory=HttpConfig)
    grpc: GrpcConfig = msgspec.field(default_factory=GrpcConfig)
    fleet: FleetConfig = msgspec.field(default_factory=FleetConfig)
    dispatch: DispatchConfig = msgspec.field(default_factory=DispatchConfig)
    admission: AdmissionConfig = msgspec.field(default_factory=AdmissionConfig)
    placement: PlacementConfig = msgspec.field(default_factory=PlacementConfig)
    state_dir: str = ""  # empty: the system's place for application data
    replicas: int = 1
    log_level: str = "info"


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
    _merge(tree, overrides or {})
    _reject_unknown(tree, RouterConfig, where, prefix="")
    try:
        return msgspec.convert(tree, RouterConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error


def _merge(into: dict[str, Any], extra: dict[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _reject_unknown(tree: dict[str, Any], struct: type[msgspec.Struct], where: str, prefix: str) -> None:
    fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
    for key, value in tree.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean '{prefix}{near[0]}'?" if near else f"; valid keys: {', '.join(sorted(fields))}"
            raise ConfigError(f"{where}: unknown key '{prefix}{key}'{hint}")
        kind = fields[key]
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            _reject_unknown(value, kind, where, f"{prefix}{key}.")
