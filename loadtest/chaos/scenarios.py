"""The faults, each done to a simulated and to a real worker at once, or to what both depend on.

``strike`` does it; ``later`` is what follows while the streams still run (the lid opens, the disk is freed).
"""

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.chaos.faults.freeze import FrozenThread, freeze
from loadtest.chaos.moment import Moment
from loadtest.chaos.pool import DRAFT, READY_WITHIN_S, ChaosPool, Layout
from loadtest.chaos.waiting import NotReached, until


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is expected of simulated rows: longest stall of a client, and time until placements stopped. Seconds."""

    stall_s: float
    stop_s: float | None = None


KILLED = Bounds(stall_s=2.0, stop_s=0.5)
HANGING = Bounds(stall_s=6.0, stop_s=5.0)
UNTOUCHED = Bounds(stall_s=2.0)

DISK_BYTES = 2 * 2**20
DRAIN_S = 2.0
DRAFT_WITHIN_S = 30.0


@dataclass(slots=True)
class Stage:
    """What a strike works on, and what it leaves for later."""

    pool: ChaosPool
    struck_at: float | None = None  # where finding the victim takes time: when it was hit (monotonic)
    frozen: list[FrozenThread] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)


Act = Callable[[Stage], Awaitable[None]]


async def _nothing(stage: Stage) -> None:
    """Nothing follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One row for each engine that is hit. ``leaves`` False: no worker goes."""

    name: str
    strike: Act
    later: Act = _nothing
    when: Moment = Moment.MID_STREAM
    lasts_s: float = 0.0  # from the strike to ``later``, and until the victims are shown as out
    layout: Layout = field(default_factory=Layout)
    prompt_words: int = 60
    engines: tuple[str, ...] = ("simulated", "llama.cpp")
    bounds: Bounds | None = None
    leaves: bool = True  # a worker goes, so that its streams have to move
    ends_router: bool = False


async def kill(stage: Stage) -> None:
    """SIGKILL: no goodbye."""
    for worker in stage.pool.struck():
        worker.child.send(signal.SIGKILL)


async def kill_while_loading(stage: Stage) -> None:
    """SIGKILL while another model loads or is measured; the fleet table must show that one does."""
    fleet = await stage.pool.fleet()
    for name in stage.pool.victims.values():
        states = [f"{model['model']}@{model['quantization']} {model['state']}" for model in fleet[name]["models"]]
        stage.notes[name] = states
        if not any(state.endswith(("loading", "benchmarking")) for state in states):
            raise NotReached(f"{name} loaded nothing when it was to be killed: {', '.join(states)}")
    await kill(stage)


async def freeze_process(stage: Stage) -> None:
    """SIGSTOP: the process is there and does nothing."""
    for worker in stage.pool.struck():
        worker.child.send(signal.SIGSTOP)


async def go_on(stage: Stage) -> None:
    """SIGCONT: it goes on where it stood, and all it had to say is old."""
    for worker in stage.pool.struck():
        worker.child.send(signal.SIGCONT)


async def hang(stage: Stage) -> None:
    """The engine stops, its process lives: by the control file, and by stopping the thread that computes."""
    stage.frozen.append(await freeze(stage.pool.victim("llama.cpp").child.pid))
    stage.struck_at = time.monotonic()
    _control(stage.pool, {"hang": True})


async def unhang(stage: Stage) -> None:
    """Both go on."""
    _control(stage.pool, {})
    for frozen in stage.frozen:
        frozen.thaw()


async def cut(stage: Stage) -> None:
    """The network drops everything; nobody is told."""
    for name in stage.pool.victims.values():
        stage.pool.proxies[name].cut()


async def heal(stage: Stage) -> None:
    """The network is back."""
    for name in stage.pool.victims.values():
        stage.pool.proxies[name].heal()


async def sleep(stage: Stage) -> None:
    """The lid closes, announced."""
    for worker in stage.pool.struck():
        worker.child.send(signal.SIGUSR1)


async def wake(stage: Stage) -> None:
    """The lid opens."""
    for worker in stage.pool.struck():
        worker.child.send(signal.SIGUSR2)


async def drain(stage: Stage) -> None:
    """An operator drains both, with a deadline shorter than the answers."""
    for name in stage.pool.victims.values():
        status, text = await stage.pool.admin("drain", node=name, deadline_s=DRAIN_S)
        assert status == 200, text


async def undrain(stage: Stage) -> None:
    """And takes it back."""
    for name in stage.pool.victims.values():
        await stage.pool.admin("undrain", node=name)


async def restart_router(stage: Stage) -> None:
    """SIGKILL of what routes, and another one in its place; until it has every worker again."""
    pool = stage.pool
    stage.struck_at = await pool.router.crash()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await until(pool.all_ready, READY_WITHIN_S, "the workers are ready after the router's restart")
    stage.notes["all_workers_back_s"] = round(loop.time() - began, 2)


async def fill_disk(stage: Stage) -> None:
    """No byte is left where the router keeps its records and its state."""
    ballast = stage.pool.state_dir / "ballast"

    def fill() -> None:
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    await asyncio.to_thread(fill)
    stage.notes["cordon_on_a_full_disk"] = await stage.pool.admin("cordon", node="sim-6")


async def free_disk(stage: Stage) -> None:
    """There is room again."""
    stage.notes["records_while_full"] = _lines(stage.pool.records)
    (stage.pool.state_dir / "ballast").unlink()
    await stage.pool.admin("undrain", node="sim-6")


async def jump_clocks(stage: Stage) -> None:
    """Wall clocks jump: the router's an hour ahead, the victims' a day back."""
    stage.pool.jump_clock("router", 3600)
    for name in stage.pool.victims.values():
        stage.pool.jump_clock(name, -86400)


async def jump_back(stage: Stage) -> None:
    """The router's two hours back."""
    stage.pool.jump_clock("router", -3600)


async def lie(stage: Stage) -> None:
    """One worker begins to lie."""
    stage.pool.liars[stage.pool.victims["simulated"]].lying = True


async def repent(stage: Stage) -> None:
    """It is honest again."""
    stage.pool.liars[stage.pool.victims["simulated"]].lying = False


async def kill_draft(stage: Stage) -> None:
    """SIGKILL of the draft worker, in the middle of what it proposes."""
    await _strike_draft(stage, signal.SIGKILL)


async def stop_draft(stage: Stage) -> None:
    """SIGSTOP: its connection stands, and nothing comes."""
    await _strike_draft(stage, signal.SIGSTOP)


async def _strike_draft(stage: Stage, number: signal.Signals) -> None:
    """Once its proposals are verified: a draft that nobody asks can do no harm."""

    async def under_way() -> bool:
        return any(one["accepted"] for one in await _drafted(stage.pool))

    await until(under_way, DRAFT_WITHIN_S, "proposals of the draft are accepted")
    stage.notes["accepted_before"] = sum(one["accepted"] for one in await _drafted(stage.pool))
    stage.struck_at = time.monotonic()
    stage.pool.workers[DRAFT].child.send(number)


async def draft_goes_on(stage: Stage) -> None:
    """SIGCONT; what the targets said of it meanwhile is kept."""
    stage.notes["paused"] = sorted({one["paused"] for one in await _drafted(stage.pool)})
    stage.pool.workers[DRAFT].child.send(signal.SIGCONT)


async def _drafted(pool: ChaosPool) -> list[dict[str, Any]]:
    return [one for worker in (await pool.fleet()).values() for one in worker["drafts"]]


def _control(pool: ChaosPool, fault: dict[str, object]) -> None:
    control = pool.victim("simulated").control
    assert control is not None
    control.write_text(json.dumps(fault))


def _lines(path: Path) -> int:
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def scenarios(small_disk: Path) -> list[Scenario]:
    """All of them, in the order of the table. ``small_disk``: a folder that can fill up."""
    return [
        Scenario(name="kill mid-stream", strike=kill, bounds=KILLED),
        Scenario(name="kill during prefill", strike=kill, when=Moment.PREFILL, prompt_words=300, bounds=KILLED),
        Scenario(name="kill during load", strike=kill_while_loading, layout=Layout(loading=True), bounds=KILLED),
        Scenario(name="stop and continue", strike=freeze_process, later=go_on, lasts_s=7.0, bounds=HANGING),
        Scenario(name="hung engine", strike=hang, later=unhang, lasts_s=10.0, bounds=HANGING),
        Scenario(name="cut network", strike=cut, later=heal, lasts_s=8.0, layout=Layout(proxied=True), bounds=HANGING),
        Scenario(name="announced sleep", strike=sleep, later=wake, lasts_s=5.0, bounds=KILLED),
        Scenario(name="drain", strike=drain, later=undrain, lasts_s=8.0, bounds=KILLED),
        Scenario(name="router restart", strike=restart_router, leaves=False, ends_router=True),
        Scenario(
            name="full disk",
            strike=fill_disk,
            later=free_disk,
            lasts_s=5.0,
            layout=Layout(state_dir=small_disk),
            leaves=False,
            bounds=UNTOUCHED,
        ),
        Scenario(
            name="clock jump",
            strike=jump_clocks,
            later=jump_back,
            lasts_s=4.0,
            layout=Layout(fake_clock=True),
            leaves=False,
            bounds=UNTOUCHED,
        ),
        Scenario(
            name="draft killed", strike=kill_draft, layout=Layout(draft=True), engines=("llama.cpp",), leaves=False
        ),
        Scenario(
            name="draft hung",
            strike=stop_draft,
            later=draft_goes_on,
            lasts_s=6.0,
            layout=Layout(draft=True),
            engines=("llama.cpp",),
            leaves=False,
        ),
        Scenario(
            name="lying worker",
            strike=lie,
            later=repent,
            lasts_s=10.0,
            layout=Layout(liars=True),
            engines=("simulated",),
            bounds=HANGING,
        ),
    ]
