"""Each role alone: a fresh environment from the wheel, every command in it, and its worker in a pool.

The pool's head is the router role's own environment, under Ray Serve and TLS; every other worker joins it with a token.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.join import environments
from loadtest.bench.join.environments import Environment, NotInstalled
from loadtest.bench.join.head import Head, NotServed, clean

MODELS = environments.ROOT / "build" / "models"
VLLM = environments.ROOT / ".venv-vllm"
SIMULATED = ("--engine", "simulated", "--model", "sim=rtx-4090")

NEEDS = {"serve": "router", "explain": "router", "replay": "router", "simulate": "loadtest", "loadtest": "loadtest"}
"""Commands that one extra is for; all others run from the base install."""

HEAVY = frozenset({"ray", "torch", "scipy", "numpy"})
"""What a Mac that lends its GPU through a server of its own must not be made to install."""

BASE_LIMIT_MB = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """``worker``: what its worker is started with; None: in this environment, from a server that runs already."""

    name: str
    extra: str
    worker: tuple[str, ...] | None
    without: frozenset[str] = frozenset()
    limit_mb: float = 0.0  # 0: none
    below: Path | None = None  # the environment that already holds its runtime

    @property
    def model(self) -> str:
        """As clients ask for it."""
        return "paced" if self.worker is None else self.worker[-1].partition("=")[0]


ROLES = (
    Role(name="base", extra="", worker=None, without=HEAVY, limit_mb=BASE_LIMIT_MB),
    Role(
        name="llama",
        extra="llama",
        worker=("--engine", "llama.cpp", "--model", f"smollm2-135m={MODELS / 'smollm2-135m-q8_0.gguf'}"),
        without=frozenset({"ray", "torch", "scipy"}),
    ),
    Role(name="router", extra="router", worker=SIMULATED, without=frozenset({"torch"})),
    Role(name="loadtest", extra="loadtest", worker=SIMULATED, without=frozenset({"ray", "torch"})),
    Role(
        name="vllm",
        extra="vllm",
        worker=("--engine", "vllm", "--model", f"smollm2-135m-awq={MODELS / 'smollm2-135m-awq'}"),
        below=VLLM,
    ),
)
NAMES = tuple(one.name for one in ROLES)


@dataclass(slots=True)
class Row:
    """What was found of one role."""

    role: Role
    mb: float = 0.0
    commands: int = 0
    answered: bool = False
    wrong: list[str] = field(default_factory=list)


def measure(options: argparse.Namespace, wrong: list[str]) -> Mapping[str, object]:
    """All roles, or those asked for. ``roles``: name, ok, mb."""
    wanted = [one for one in ROLES if not options.role or one.name in options.role]
    print(f"{'role':10}{'MB':>8}{'commands':>10}  worker")
    rows = []
    with tempfile.TemporaryDirectory(prefix="allsorts-roles-") as name:
        folder = Path(name)
        wheel = environments.build_wheel(folder)
        with _head_of(folder, wheel) as (router, head):
            for role in wanted:
                row = Row(role)
                try:
                    environment = router if role.extra == "router" else _make(role, folder, wheel)
                    _examine(row, environment, folder, head)
                except (NotInstalled, NotServed) as error:
                    row.wrong.append(str(error))
                rows.append(row)
                answer = "answered" if row.answered else "did not answer"
                print(f"{role.name:10}{row.mb:8.0f}{row.commands:10}  {answer}", flush=True)
    wrong += [f"{row.role.name}: {one}" for row in rows for one in row.wrong]
    return {"roles": [{"name": row.role.name, "ok": not row.wrong, "mb": round(row.mb, 1)} for row in rows]}


@contextlib.contextmanager
def _head_of(folder: Path, wheel: Path) -> Iterator[tuple[Environment, Head]]:
    router = _make(next(one for one in ROLES if one.extra == "router"), folder, wheel)
    with Head([router.allsorts], folder / "head", environment=clean(folder / "head-home")) as head:
        yield router, head


def _make(role: Role, folder: Path, wheel: Path) -> Environment:
    if role.below is not None:
        if not (role.below / "bin" / "python").exists():
            raise NotInstalled(f"{role.below.name} is not there: make env-vllm")
        return environments.overlay(folder / role.name, wheel, role.below)
    lock = environments.ROOT / "requirements" / f"{role.name}.lock"
    return environments.make(folder / role.name, wheel, role.extra, environments.pins(lock, folder))


def _examine(row: Row, environment: Environment, folder: Path, head: Head) -> None:
    role = row.role
    row.mb = environment.mb() + (Environment(role.below).mb() if role.below else 0.0)
    if role.limit_mb and row.mb > role.limit_mb:
        row.wrong.append(f"{row.mb:.0f} MB, more than {role.limit_mb:.0f}")
    if role.without and (held := role.without & environment.distributions()):
        row.wrong.append(f"holds {', '.join(sorted(held))}")
    row.commands, wrong = _commands(role, environment, folder)
    row.wrong += wrong
    with contextlib.ExitStack() as running:
        arguments = role.worker
        if arguments is None:
            arguments = ("--engine", "openai", "--base-url", running.enter_context(_paced_server()))
        head.join_and_ask(environment, role.name, role.model, arguments)
    row.answered = True


def _commands(role: Role, environment: Environment, folder: Path) -> tuple[int, list[str]]:
    """How many commands show their help, and what is wrong with them."""
    told = subprocess.run(
        [environment.python, "-m", "loadtest.bench.join.commands"],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
    )  # fmt: skip
    if told.returncode != 0:
        return 0, [f"help: {(told.stderr.splitlines() or ['nothing was said'])[-1]}"]
    helps: dict[str, str] = json.loads(told.stdout)
    wrong = []
    for name, text in helps.items():
        extra = NEEDS.get(name, "")
        missing = bool(extra) and f"needs the extra '{extra}'" in " ".join(text.split())
        if f"Usage: allsorts {name}".rstrip() not in text:
            wrong.append(f"allsorts {name} --help shows no usage")
        if missing and extra in ("", role.extra):
            wrong.append(f"allsorts {name} is not available")
        elif missing and (said := _says_what_is_missing(environment, name, extra, folder)):
            wrong.append(said)
    return len(helps), wrong


def _says_what_is_missing(environment: Environment, name: str, extra: str, folder: Path) -> str:
    """Empty when it does, in one line, whatever its arguments."""
    done = subprocess.run(
        [environment.allsorts, *name.split(), "--fleet", "x"],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip
    clear = done.returncode == 1 and done.stderr.count("\n") == 1 and f"pip install 'allsorts[{extra}]'" in done.stderr
    return "" if clear else f"allsorts {name} without its extra says {done.stderr.strip()[-200:]!r}"


@contextlib.contextmanager
def _paced_server() -> Iterator[str]:
    """A server that speaks OpenAI's API, as it would run on that machine already; its base URL."""
    command = [sys.executable, "-m", "loadtest.bench.machines.paced_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate(timeout=10)
