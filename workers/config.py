"""The worker's configuration: one frozen tree, read once from file, environment and flags (later ones win)."""

import difflib
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs

from protos.contract.models.model_name import parse_name
from protos.contract.worker import DRAFT_ROLE
from workers.engines.spec import EngineSpec
from workers.engines.table import DEFAULT_ENGINE, ENGINES
from workers.errors import WorkerError
from workers.models.disk import KEEP_FREE_BYTES

ENVIRONMENT_PREFIX = "ALLSORTS_WORKER_"

DISK_BYTES = 64 * 2**20
"""What a worker keeps on disk at most, unless told otherwise."""

BATTERY_PRICE_S = 5.0

UPSTREAM_KEY = "ALLSORTS_UPSTREAM_KEY"

Option = str | int | float | bool


class ConfigError(WorkerError):
    """A value is wrong."""


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model to serve. What is 0 or empty is taken from the worker, then from the engine's default."""

    path: str
    name: str = ""  # empty: from the file's name
    quantization: str = ""
    context_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    slots: Annotated[int, msgspec.Meta(ge=0)] = 0
    options: dict[str, Option] = {}
    order: str = ""  # of the fleet controller that started this worker for it


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything ``allsorts worker`` can be told; keys are the same in a TOML file and in the environment."""

    routers: tuple[str, ...] = ("127.0.0.1:8100",)  # host:port of router replicas' session listeners
    node: str = msgspec.field(default_factory=lambda: socket.gethostname().partition(".")[0])
    engine: str = DEFAULT_ENGINE
    models: tuple[ModelConfig, ...] = ()
    base_url: str = ""  # of a server that already runs, for an engine that asks one
    api_key_env: str = UPSTREAM_KEY  # variable that holds that server's key, when it wants one
    context_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    slots: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    max_cores: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0  # the owner's caps; 0: none
    max_memory_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0  # of all its models together
    max_disk_bytes: Annotated[int, msgspec.Meta(ge=2**20)] = DISK_BYTES  # logs, and what was measured
    battery_price_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = BATTERY_PRICE_S  # on battery, in low-power mode
    when: Literal["always", "plugged-in", "idle"] = "always"  # work is taken
    role: Literal["serve", "draft"] = "serve"  # draft: proposes tokens to other workers, and serves no requests
    listen: str = ""  # host:port where a draft listens; empty: any port, of this machine alone without certificates
    wait_for_models: bool = False  # the fleet's operator decides what is loaded here, within the caps
    models_dir: str = ""  # where the files lie that may be loaded then; empty: the system's place for them
    fetch: bool = True  # models that the pool has, or names a source for, may be put there
    share: bool = True  # models here may go to other machines of the pool
    keep_free_bytes: Annotated[int, msgspec.Meta(ge=0)] = KEEP_FREE_BYTES  # of that disk stay free
    max_models_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0  # what fetched models leave that folder at; 0: no bound
    fetch_bytes_per_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0  # 0: no bound
    share_bytes_per_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    labels: dict[str, str] = {}
    enrol: str = ""  # host:port where a fleet with certificates lets machines in; empty: a loopback fleet
    token: str = ""  # join token; none is needed on a loopback fleet, nor by a key that was let in before
    state_dir: str = msgspec.field(default_factory=lambda: platformdirs.user_state_dir("allsorts"))
    cache_dir: str = msgspec.field(default_factory=lambda: platformdirs.user_cache_dir("allsorts"))
    benchmark: Literal["off", "quick", "full"] = "full"
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 20.0  # how long SIGTERM lets running requests finish
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    options: dict[str, Option] = {}  # handed to the engine with every model


def read_config(
    file: Path | None = None, *, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> WorkerConfig:
    """The configuration of this process. Raises ConfigError with one clear line."""
    values = {**_from_file(file), **_from_environment(environment or {})}
    values |= {key: value for key, value in (flags or {}).items() if value not in (None, (), [], {}, "")}
    _check_names(values, WorkerConfig, "the worker's configuration")
    for number, model in enumerate(values.get("models", ())):
        if isinstance(model, Mapping):
            _check_names(model, ModelConfig, f"models[{number}]")
    try:
        config = msgspec.convert(values, WorkerConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the worker's configuration: {error}") from None
    _check_values(config)
    return config


def parse_model(text: str) -> ModelConfig:
    """``NAME=PATH`` or ``PATH``. A path may hold ``=`` when it stands alone behind a name."""
    name, separator, path = text.partition("=")
    if not separator or "/" in name:
        name, path = "", text
    if not path:
        raise ConfigError(f"--model {text!r}: write NAME=PATH or PATH")
    name = name or public_name(path)
    if problem := unaskable(name):
        raise ConfigError(f"--model {text!r}: {problem}")
    return ModelConfig(name=name, path=path)


def parse_labels(pairs: list[str]) -> dict[str, str]:
    """``k=v`` pairs as a table."""
    labels = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise ConfigError(f"--label {pair!r}: write KEY=VALUE")
        labels[key] = value
    return labels


def public_name(path: str) -> str:
    """A model's public name, from its file's: lower case, without extension and quantization."""
    return parse_name(path).model.lower()


def unaskable(name: str) -> str:
    """Why no client could ask for a model of this name; empty: it can."""
    if "@" not in name:
        return ""
    return f"no client can ask for {name!r}, as @ parts name and quantization; give it another: --model NAME={name}"


def no_base_url(engine: str) -> str:
    """What to tell whoever named no server to an engine that asks one."""
    return f"engine {engine!r} needs --base-url, for example http://127.0.0.1:11434/v1 for Ollama"


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}; check the path given with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
            match key:
                case "routers":
                    values[key] = tuple(one.strip() for one in text.split(",") if one.strip())
                case "labels":
                    values[key] = parse_labels([one for one in text.split(",") if one])
                case "models":
                    values[key] = tuple(msgspec.to_builtins(parse_model(one)) for one in text.split(",") if one)
                case _:
                    values[key] = text
    return values


def _check_names(values: Mapping[str, Any], struct: type[msgspec.Struct], where: str) -> None:
    for name in values:
        if name not in struct.__struct_fields__:
            near = difflib.get_close_matches(name, struct.__struct_fields__, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(struct.__struct_fields__)}"
            raise ConfigError(f"{where}: unknown key {name!r}; {hint}")


def _check_values(config: WorkerConfig) -> None:
    for address in (*config.routers, *((config.enrol,) if config.enrol else ())):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"router {address!r}: write HOST:PORT, for example 127.0.0.1:8100")
    for model in config.models:
        if problem := unaskable(model.name or public_name(model.path)):
            raise ConfigError(problem)
    engine = ENGINES.get(config.engine)
    if engine is None:
        raise ConfigError(f"there is no engine {config.engine!r}; choose one of {', '.join(ENGINES)}")
    if engine.asks_server and not config.base_url:
        raise ConfigError(no_base_url(engine.name))
    _check_draft(config, engine)
    if config.wait_for_models and (engine.asks_server or config.role == DRAFT_ROLE):
        what = "a draft" if config.role == DRAFT_ROLE else f"engine {config.engine}"
        raise ConfigError(f"--wait-for-models: {what} serves what it was given, and loads nothing else")
    if not engine.asks_server and not config.models and not config.wait_for_models:
        raise ConfigError(
            f"nothing to serve: give --model NAME=PATH (engine {config.engine}), or --wait-for-models to serve what "
            "the fleet's operator wants"
        )


def _check_draft(config: WorkerConfig, engine: EngineSpec) -> None:
    if config.role == DRAFT_ROLE and not engine.draft_factory:
        able = ", ".join(name for name, one in ENGINES.items() if one.draft_factory)
        raise ConfigError(f"engine {config.engine!r} drafts for nobody; --role draft works with {able}")
    if config.listen:
        if config.role != DRAFT_ROLE:
            raise ConfigError("--listen is for --role draft: other workers dial, and nobody dials them")
        host, _, port = config.listen.rpartition(":")
        if not host or not port.isdigit() or not int(port) < 65536:
            raise ConfigError(f"--listen {config.listen!r}: write HOST:PORT, for example 0.0.0.0:8098")
