"""The steps of ``allsorts join``: look around, say what will be done, ask the router, then serve or be installed."""

import asyncio
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protos.contract.joining.join_token import JoinToken
from protos.contract.worker import DRAFT_ROLE, Profile
from workers.cli.log_setup import LOG_BYTES, set_up_logging
from workers.config import (
    BATTERY_PRICE_S,
    DISK_BYTES,
    UPSTREAM_KEY,
    ConfigError,
    ModelConfig,
    WorkerConfig,
    read_config,
)
from workers.drafting.listener import is_shown, own_address
from workers.engines.table import engine_spec
from workers.hardware.cpu import compute_cores
from workers.installing.own_place import own_command, own_place, runs_from_own_place
from workers.installing.provide import LLAMA_CPP, llama_plan_here, provide_llama
from workers.joining.door import door_of
from workers.joining.home import Home
from workers.joining.join import Joined, join_fleet, keep_renewed
from workers.joining.model_selection import choose, models_here
from workers.joining.neighbourhood import needs_of
from workers.joining.plan import JoinPlan, plan_lines
from workers.joining.preflight import check_models
from workers.joining.profile import profile_of
from workers.joining.staying import service_units
from workers.joining.staying.following import follow_head
from workers.joining.staying.restart import take_mark
from workers.joining.view import BuildProgress, JoinView
from workers.models.disk import KEEP_FREE_BYTES
from workers.neighbours.place import meeting_place
from workers.neighbours.shares import Bounds, Shares, cores_for
from workers.owner.looking import has_battery

SKEW_WORTH_SAYING_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinWish:
    """What the owner asked for. ``flags``: of the configuration; ``named``: models; ``ask``: somebody can answer."""

    address: str
    token: JoinToken | None
    flags: dict[str, Any]
    named: tuple[ModelConfig, ...]
    home: Home
    state_dir: Path | None = None  # where it was named
    log_file: Path | None = None  # as named
    ask: bool = False
    install: bool = False
    auto_upgrade: bool = False


class JoinSteps:
    """One join, shown on ``view``."""

    def __init__(self, wish: JoinWish, view: JoinView) -> None:
        self._wish = wish
        self._flags = wish.flags
        self._engine = engine_spec(wish.flags["engine"])
        self._node = wish.flags["node"] or socket.gethostname().partition(".")[0]
        self._log = wish.log_file or (wish.home.log(self._node) if sys.stderr.isatty() else None)
        self._view = view
        self.again: list[str] = []  # what to become, when it is to start anew

    async def run(self) -> tuple[int, str]:
        """Join, then serve until stopped, or hand over to launchd or systemd; exit status and why."""
        if not await asyncio.to_thread(self._has_engine):
            return 0, ""
        profile = await self._look_around()
        if not await asyncio.to_thread(self._agreed, profile):
            return 0, ""
        self._wish.home.prepare()
        bytes_ = min(LOG_BYTES, (self._flags["max_disk_bytes"] or DISK_BYTES) // 2)
        set_up_logging("info", self._log, max_bytes=bytes_)  # between people's lines they would stand
        joined = await self._join(profile)
        config = self._configure(joined)
        if self._wish.install:
            await asyncio.to_thread(self._installed, config)
            return 0, ""
        with joined.files.in_use():
            code, reason = await self._serve(config, joined, profile)
        if take_mark(joined.files):
            self.again = self._command(config)
        return code, reason

    # ------------------------------------------------------------ before anything is done

    def _has_engine(self) -> bool:
        """In the environment that the pasted line made, llama.cpp comes with the first join that wants it.

        False: its owner would rather not. Elsewhere what is missing is said, with the command that installs it.
        """
        wish = self._wish
        if self._engine.installed() or self._engine.name != LLAMA_CPP or not runs_from_own_place():
            return True
        chosen, _ = llama_plan_here()
        if wish.ask and not self._view.confirm(f"{chosen.about} is not here yet; get or compile it"):
            self._view.say("nothing was done")
            return False
        wish.home.prepare()
        with door_of(wish.address, wish.token.text() if wish.token else "", wish.home.state) as door:
            progress = BuildProgress(self._view.console)
            provide_llama(wish.home.cache, say=self._view.say, progress=progress, door=door)
        return True

    async def _look_around(self) -> Profile:
        """What is missing or wrong here is said before a token is used."""
        profile = await profile_of(
            self._engine,
            node=self._node,
            threads=self._flags["threads"] or 0,
            model=next(iter(self._wish.named), None),
        )
        self._view.hardware(profile.hardware)
        self._view.say(f"engine: {profile.engine} {profile.engine_version}")
        key = os.environ.get(UPSTREAM_KEY, "")
        await check_models(self._engine, self._wish.named, base_url=self._flags["base_url"] or "", api_key=key)
        return profile

    def _agreed(self, profile: Profile) -> bool:
        """The plan is shown, and where somebody can answer, agreed to."""
        if self._wish.auto_upgrade and not runs_from_own_place():
            raise ConfigError("--auto-upgrade is for an allsorts that the head's line installed; this one is yours")
        wish, flags = self._wish, self._flags
        counts = flags["context_tokens"] or 0, flags["slots"] or 0
        needs = [needs_of(self._engine, Path(one.path), *counts) for one in wish.named]
        drafts_at = (flags["listen"] or "any free port") if flags["role"] == DRAFT_ROLE else ""
        plan = JoinPlan(
            address=wish.address,
            engine=self._engine,
            hardware=profile.hardware,
            home=wish.home,
            log=str(self._log or "standard error"),
            models=[(one.name, one.path) for one in wish.named],
            base_url=flags["base_url"] or "",
            waits_for_models=flags["wait_for_models"],
            needs_bytes=sum(needs),
            threads=self._threads(compute_cores(profile.hardware)),
            benchmark="off" if drafts_at else flags["benchmark"] or "full",
            drafts_at=drafts_at,
            when=flags["when"] or "always",
            battery_price_s=self._battery_price_s() if has_battery() else 0.0,
            max_memory_bytes=flags["max_memory_bytes"] or 0,
            max_disk_bytes=flags["max_disk_bytes"] or DISK_BYTES,
            keep_free_bytes=KEEP_FREE_BYTES if flags["keep_free_bytes"] is None else flags["keep_free_bytes"],
            max_models_bytes=flags["max_models_bytes"] or 0,
            shares=flags["share"] is not False,
            program=str(own_place()) if runs_from_own_place() else "",
            auto_upgrade=wish.auto_upgrade,
            unit=str(service_units.unit([], Path()).path) if wish.install else "",
        )
        self._view.plan(plan_lines(plan))
        if not wish.ask or self._view.confirm("go on"):
            return True
        self._view.say("nothing was done")
        return False

    def _threads(self, cores: int) -> int:
        """Cores that will be left for an engine that computes on them; 0: it decides by itself."""
        asked, default = self._flags["threads"] or 0, self._engine.default_threads
        if not asked and not default:
            return 0
        others = Shares(meeting_place(), self._node, Bounds()).others()
        bounds = Bounds(cores=cores, max_cores=self._flags["max_cores"] or 0)
        return cores_for(bounds, others, asked=asked, default=default)

    def _battery_price_s(self) -> float:
        asked: float | None = self._flags["battery_price_s"]
        return BATTERY_PRICE_S if asked is None else asked

    # ------------------------------------------------------------ joining

    async def _join(self, profile: Profile) -> Joined:
        wish = self._wish
        here = await asyncio.to_thread(models_here, self._engine, wish.home.models, wish.named)
        joined = await join_fleet(
            wish.address,
            wish.token,
            profile,
            wish.home.state,
            say=self._view.say,
            files_here=here,
            serves_at=self._serves_at(),
        )
        self._view.expected = joined.offers
        hours = (joined.membership.expires_at_unix_s + joined.clock_skew_s - time.time()) / 3600
        self._view.say(f"let in as {joined.membership.worker_id}; certificate for {hours:.0f} h, renewed by itself")
        if abs(joined.clock_skew_s) > SKEW_WORTH_SAYING_S:
            self._view.warn(
                f"this machine's clock is {abs(joined.clock_skew_s):.0f} s "
                f"{'ahead of' if joined.clock_skew_s > 0 else 'behind'} the router's; set it by network time"
            )
        return joined

    def _serves_at(self) -> tuple[str, ...]:
        """A draft's addresses; other roles serve nobody."""
        if self._flags.get("role") != DRAFT_ROLE:
            return ()
        listens = (self._flags.get("listen") or "").rpartition(":")[0].strip("[]")
        return tuple(dict.fromkeys(one for one in (own_address(self._wish.address), listens) if is_shown(one)))

    def _configure(self, joined: Joined) -> WorkerConfig:
        models = self._wish.named
        if not models and not self._engine.asks_server and not self._flags["wait_for_models"]:
            ask = self._view.ask if self._wish.ask else None
            option = choose(self._engine, joined.offers, self._wish.home.models, ask=ask)
            why = f" ({option.offer.reason})" if option.offer and option.offer.reason else ""
            self._view.say(f"serving {option.name}@{option.quantization or '?'} from {option.path}{why}")
            models = (option.config,)
        flags = {**self._flags, "routers": joined.membership.replicas}
        flags["models"] = [{"name": one.name, "path": str(_absolute(one.path))} for one in models]
        return read_config(None, flags=flags)

    # ------------------------------------------------------------ serving

    async def _serve(self, config: WorkerConfig, joined: Joined, profile: Profile) -> tuple[int, str]:
        from workers.server import serve  # engines' dependencies load late, so that --help is quick

        beside = [asyncio.create_task(keep_renewed(joined.files, profile), name="certificate renewal")]
        if self._wish.auto_upgrade:
            said_in = self._wish.home.log(f"{config.node}.upgrade")
            said_in.parent.mkdir(exist_ok=True, mode=0o700)
            beside.append(asyncio.create_task(follow_head(self._upgrade(config), said_in), name="upgrades"))
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
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        return ended.code, ended.reason

    def _installed(self, config: WorkerConfig) -> None:
        """The rest is launchd's or systemd's."""
        log = self._wish.home.log(config.node)
        limits = service_units.Limits(cores=config.max_cores, memory_bytes=config.max_memory_bytes)
        unit = service_units.unit(self._command(config), log, limits=limits)
        self._wish.home.prepare(unit.path.parent)
        left = service_units.install(unit)
        self._view.say(f"written: {unit.path}")
        if left:
            self._view.warn("could not start it from here; type: " + " && ".join(left))
        else:
            self._view.say("it runs now, and after every reboot; `allsorts leave` removes it")
        if unit.hint:
            self._view.say(unit.hint)

    def _upgrade(self, config: WorkerConfig) -> list[str]:
        command = [*own_command("workers.cli.upgrade", "upgrade"), "--node", config.node]
        return command + (["--state-dir", str(self._wish.home.state)] if self._wish.state_dir is not None else [])

    def _command(self, config: WorkerConfig) -> list[str]:
        """The same join without its token: the key is enough."""
        command = own_command("workers.cli.join", "join")
        command += [self._wish.address, "--engine", config.engine, "--node", config.node, "--yes"]
        if self._wish.log_file is not None:
            command += ["--log-file", str(self._wish.log_file)]
        if self._wish.state_dir is not None:
            command += ["--state-dir", str(self._wish.home.state)]
        for one in config.models:
            command += ["--model", f"{one.name}={one.path}"]
        pairs = (("--base-url", config.base_url), ("--context", config.context_tokens), ("--slots", config.slots))
        for flag, value in (*pairs, ("--threads", config.threads), *self._caps(config)):
            if value:
                command += [flag, str(value)]
        command += ["--role", config.role] if config.role != "serve" else []
        command += ["--listen", config.listen] if config.listen else []
        command += ["--wait-for-models", "--models", config.models_dir] if config.wait_for_models else []
        command += [] if config.share else ["--no-share"]
        command += ["--auto-upgrade"] if self._wish.auto_upgrade else []
        command += ["--when", config.when] if config.when != "always" else []
        if self._flags["battery_price_s"] is not None:
            command += ["--battery-price", f"{config.battery_price_s:g}"]
        return command + {"off": ["--no-benchmark"], "quick": ["--quick-benchmark"]}.get(config.benchmark, [])

    @staticmethod
    def _caps(config: WorkerConfig) -> tuple[tuple[str, int | str], ...]:
        disk = config.max_disk_bytes if config.max_disk_bytes != DISK_BYTES else 0
        keep = str(config.keep_free_bytes) if config.keep_free_bytes != KEEP_FREE_BYTES else ""  # "0" is told too
        return (
            ("--max-cores", config.max_cores),
            ("--max-memory", config.max_memory_bytes),
            ("--max-disk", disk),
            ("--keep-free", keep),
            ("--max-models-disk", config.max_models_bytes),
        )


def _absolute(path: str) -> Path | str:
    return Path(path).absolute() if Path(path).exists() else path
