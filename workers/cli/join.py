"""``allsorts join``: this machine into a fleet, by the one line the head printed."""

import asyncio
import os
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import typer

from protos.contract.join_token import BadToken, JoinToken, parse_token
from protos.contract.printable import plain_text
from protos.contract.worker import Profile
from workers.cli.alone import run_alone
from workers.cli.log_setup import set_up_logging
from workers.cli.worker import EXPECTED
from workers.config import UPSTREAM_KEY, ModelConfig, WorkerConfig, parse_model, read_config
from workers.engines.table import DEFAULT_ENGINE, ENGINE_HELP, engine_spec
from workers.joining import service_units
from workers.joining.join import Joined, join_fleet, keep_renewed
from workers.joining.model_selection import choose, models_here
from workers.joining.preflight import check_models
from workers.joining.profile import profile_of
from workers.joining.view import JoinView

FAILURES = (*EXPECTED, BadToken)
"""Each is one clear line."""

SKEW_WORTH_SAYING_S = 30.0


def join(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="As `allsorts token create` printed it.")],
    token: Annotated[
        str, typer.Option(envvar="ALLSORTS_TOKEN", help="The join token; not needed to come back.", show_default=False)
    ] = "",
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Serve this; may be repeated. Else you are asked.")
    ] = None,
    models: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where model files lie.")] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = DEFAULT_ENGINE,
    base_url: Annotated[str | None, typer.Option(help="The running server's base URL, with --engine openai.")] = None,
    node: Annotated[str | None, typer.Option(help="This machine's name in the fleet.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Longest prompt plus output, in tokens.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Sequences that run together.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the engine.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where key and certificate are kept.")] = None,
    no_benchmark: Annotated[bool, typer.Option("--no-benchmark", help="Do not measure.")] = False,
    quick_benchmark: Annotated[bool, typer.Option("--quick-benchmark", help="Measure for four seconds.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the router's choice without asking.")] = False,
    install: Annotated[bool, typer.Option("--install", help="Come back after every reboot.")] = False,
) -> None:
    """Add this machine to a fleet and serve.

    Examples:
      allsorts join head.local:8099 --token as1.…

      allsorts join head.local:8099 --token as1.… --model llama-3.1-8b=models/llama-3.1-8b-q4_k_m.gguf --install

      allsorts join head.local:8099            (again, later: the key from the first time is enough)

    """
    view = JoinView()
    flags: dict[str, Any] = {
        "engine": engine,
        "base_url": base_url,
        "node": node,
        "context_tokens": context,
        "slots": slots,
        "threads": threads,
        "benchmark": "off" if no_benchmark else "quick" if quick_benchmark else None,
        "state_dir": str(state_dir) if state_dir else None,
    }
    try:
        named = tuple(parse_model(one) for one in model or ())
        folder = models or Path(platformdirs.user_data_dir("allsorts")) / "models"
        parsed = parse_token(token) if token else None
        steps = _Steps(address, parsed, flags, named, folder, view, ask=not yes and sys.stdin.isatty())
        code, reason = asyncio.run(steps.install() if install else steps.serve())
    except FAILURES as error:
        code, reason = 1, str(error).splitlines()[0]
        reason += f" (more: {_doctor(address, token, node, state_dir)})"
    except KeyboardInterrupt:
        code, reason = 130, "interrupted"
    if code != 0:
        typer.echo(plain_text(f"allsorts join: {reason}"), err=True)
    raise typer.Exit(code)


def _doctor(address: str, token: str, node: str | None, state_dir: Path | None) -> str:
    """The doctor's line that looks at what this join looked at."""
    words = ["allsorts", "doctor", address]
    words += ["--node", node] if node else []
    words += ["--state-dir", str(state_dir)] if state_dir else []
    return shlex.join(words) + (" --token …" if token else "")


class _Steps:
    """The steps of a join, shared by serving at once and by ``--install``."""

    def __init__(
        self,
        address: str,
        token: JoinToken | None,
        flags: dict[str, Any],
        named: tuple[ModelConfig, ...],
        folder: Path,
        view: JoinView,
        *,
        ask: bool,
    ) -> None:
        self._address = address
        self._token = token
        self._flags = flags
        self._engine = engine_spec(flags["engine"])
        self._named = named
        self._folder = folder
        self._view = view
        self._ask = ask

    async def serve(self) -> tuple[int, str]:
        """Join and serve until stopped; exit status and why."""
        profile = await self._look_around()
        joined = await self._join(profile)
        config = self._configure(joined)
        set_up_logging("warning" if sys.stderr.isatty() else config.log_level)
        with joined.files.in_use():
            return await self._serve(config, joined, profile)

    async def _serve(self, config: WorkerConfig, joined: Joined, profile: Profile) -> tuple[int, str]:
        from workers.server import serve

        renewal = asyncio.create_task(keep_renewed(joined.files, profile), name="certificate renewal")
        try:
            ended = await serve(
                config,
                worker_id=joined.membership.worker_id,
                security=joined.files.security(),
                profile=profile,
                on_progress=self._view.progress,
                leave_unless_loaded=True,
            )
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        return ended.code, ended.reason

    async def install(self) -> tuple[int, str]:
        """Join, then hand over to launchd or systemd."""
        profile = await self._look_around()
        joined = await self._join(profile)
        config = self._configure(joined)
        unit = service_units.unit(self._command(config), Path(config.state_dir) / "worker.log")
        left = await asyncio.to_thread(service_units.install, unit)
        self._view.say(f"written: {unit.path}")
        if left:
            self._view.warn("could not start it from here; type: " + " && ".join(left))
        else:
            self._view.say("it runs now, and after every reboot; `allsorts leave` removes it")
        if unit.hint:
            self._view.say(unit.hint)
        return 0, ""

    async def _look_around(self) -> Profile:
        """What is missing or wrong here is said before a token is used."""
        profile = await profile_of(
            self._engine,
            node=self._flags["node"] or socket.gethostname().partition(".")[0],
            threads=self._flags["threads"] or 0,
            model=next(iter(self._named), None),
        )
        self._view.hardware(profile.hardware)
        self._view.say(f"engine: {profile.engine} {profile.engine_version}")
        key = os.environ.get(UPSTREAM_KEY, "")
        await check_models(self._engine, self._named, base_url=self._flags["base_url"] or "", api_key=key)
        return profile

    async def _join(self, profile: Profile) -> Joined:
        base = Path(self._flags["state_dir"] or platformdirs.user_state_dir("allsorts"))
        here = await asyncio.to_thread(models_here, self._engine, self._folder, self._named)
        joined = await join_fleet(self._address, self._token, profile, base, say=self._view.say, files_here=here)
        self._view.expected = joined.offers
        hours = (joined.membership.expires_at_unix_s + joined.clock_skew_s - time.time()) / 3600
        self._view.say(f"let in as {joined.membership.worker_id}; certificate for {hours:.0f} h, renewed by itself")
        if abs(joined.clock_skew_s) > SKEW_WORTH_SAYING_S:
            self._view.warn(
                f"this machine's clock is {abs(joined.clock_skew_s):.0f} s "
                f"{'ahead of' if joined.clock_skew_s > 0 else 'behind'} the router's; set it by network time"
            )
        return joined

    def _configure(self, joined: Joined) -> WorkerConfig:
        models = self._named
        if not models and not self._engine.asks_server:
            option = choose(self._engine, joined.offers, self._folder, ask=self._view.ask if self._ask else None)
            why = f" ({option.offer.reason})" if option.offer and option.offer.reason else ""
            self._view.say(f"serving {option.name}@{option.quantization or '?'} from {option.path}{why}")
            models = (option.config,)
        flags = {**self._flags, "routers": joined.membership.replicas}
        flags["models"] = [{"name": one.name, "path": str(_absolute(one.path))} for one in models]
        return read_config(None, flags=flags)

    def _command(self, config: WorkerConfig) -> list[str]:
        """The same join without its token: the key is enough."""
        command = [sys.executable, "-m", "workers.cli.join", self._address, "--engine", config.engine]
        command += ["--node", config.node, "--state-dir", str(Path(config.state_dir).absolute())]
        for one in config.models:
            command += ["--model", f"{one.name}={one.path}"]
        pairs = (("--base-url", config.base_url), ("--context", config.context_tokens), ("--slots", config.slots))
        for flag, value in (*pairs, ("--threads", config.threads)):
            if value:
                command += [flag, str(value)]
        return command + {"off": ["--no-benchmark"], "quick": ["--quick-benchmark"]}.get(config.benchmark, [])


def _absolute(path: str) -> Path | str:
    return Path(path).absolute() if Path(path).exists() else path


if __name__ == "__main__":
    run_alone(join)
