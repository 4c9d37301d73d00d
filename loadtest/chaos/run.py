"""One scenario from start to rows: a fresh pool, 200 streams, the strike, what followed, and what everybody said."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from loadtest.chaos.answers import RealAnswers, simulated_wrong
from loadtest.chaos.crowd import REAL_STREAMS, Crowd, real_tokens
from loadtest.chaos.moment import Moment, choose, is_newcomer, newcomers_go_to, seen
from loadtest.chaos.pool import REAL, REAL_WORKERS, SIMULATED, SIMULATED_WORKERS, ChaosPool
from loadtest.chaos.routers import Serving
from loadtest.chaos.rows import Placement, Row, Stop, make_row, stop_of
from loadtest.chaos.scenarios import Scenario, Stage
from loadtest.chaos.streams import Stream
from loadtest.chaos.waiting import NotReached, until

MODELS = {"simulated": SIMULATED, "llama.cpp": REAL}

NEWCOMERS_BEFORE = 2
"""The last so many newcomers must have gone to a victim in mid-answer before it is struck."""

NEWCOMERS_S = 12.0
"""For so long they come after the strike."""

ENOUGH = 4
"""One in so many of the streams that are a worker's share must be where the scenario wants them when it is struck."""

STATE_WITHIN_S = 30.0
NOTICED_WITHIN_S = 30.0
LOOK_EVERY_S = 0.1
BACK_WITHIN_S = 60.0
MOST_PROBES = 5
"""Half-open trials of a worker that is out, in the ten seconds of the longest fault: pauses double from one second."""
AFTER_RESTART = 40
"""Requests sent once the restarted router serves again."""


@dataclass(slots=True)
class Course:
    """What happened in one scenario."""

    streams: list[Stream] = field(default_factory=list)
    struck_at: float = 0.0
    ended_at: float = 0.0
    noticed_at: dict[str, float] = field(default_factory=dict)  # engine -> when its victim was shown as out
    placements: list[Placement] = field(default_factory=list)
    victims: dict[str, str] = field(default_factory=dict)  # engine -> worker id
    notes: dict[str, Any] = field(default_factory=dict)


async def run_scenario(
    scenario: Scenario, folder: Path, models: dict[str, Path], *, serving: Serving, count: int, seed: int
) -> Course:
    """Let it happen. Raises NotReached when the pool does not come up, or the moment to strike never comes."""
    course = Course()
    dice = random.Random(f"{seed}/{scenario.name}")
    async with (
        ChaosPool(folder, models, scenario.layout, serving) as pool,
        _clients() as session,
        Crowd(session, pool.url, dice) as crowd,
    ):
        course.streams = crowd.streams
        stage = Stage(pool)
        await _before(scenario, stage, crowd, count)
        course.victims = {engine: pool.victim(engine).worker_id for engine in scenario.engines}
        await _strike(scenario, stage, course, crowd)
        if scenario.lasts_s:
            began = time.monotonic()
            await until(pool.all_ready, BACK_WITHIN_S, "the workers are back")
            stage.notes["back_after_s"] = round(time.monotonic() - began, 2)
        else:
            course.ended_at = time.monotonic()
        if not scenario.ends_router:
            course.placements = await _placements(session, pool.url, course.streams)
        course.notes = stage.notes | await _record_figures(session, pool)
    return course


async def _before(scenario: Scenario, stage: Stage, crowd: Crowd, count: int) -> None:
    """Everything up to the moment to strike; then the victims are chosen.

    Newcomers come after the streams were placed: with a long prompt each, they would keep the streams from the worker
    that they go to.
    """
    real = "llama.cpp" in scenario.engines
    gap_s = await crowd.warm_up(scenario.prompt_words, real=real)
    tokens = real_tokens(gap_s) if real else 0
    held = await crowd.held() if scenario.leaves else ""
    spared = stage.pool.spared()
    for name in spared:  # until the streams run: they would all go there
        await stage.pool.admin("cordon", node=name)
    crowd.ask(crowd.streams_to_strike(count, scenario.prompt_words, tokens))
    if scenario.when is Moment.MID_STREAM:
        await _moment(scenario, stage.pool, crowd, count)
    for name in spared:
        await stage.pool.admin("undrain", node=name)
    if not scenario.ends_router:
        crowd.newcomers_come(held)
    await _moment(scenario, stage.pool, crowd, count, followed=bool(held) and scenario.when is Moment.MID_STREAM)
    stage.notes |= {"real_tokens": tokens, "victims": " ".join(stage.pool.victims.values())}


async def _moment(scenario: Scenario, pool: ChaosPool, crowd: Crowd, count: int, *, followed: bool = False) -> None:
    """Wait until some worker of each engine has enough streams where the scenario wants them: these are the victims.

    ``followed``: of the simulated ones, the worker that newcomers go to.
    """
    shares = {"simulated": (count - REAL_STREAMS) // SIMULATED_WORKERS, "llama.cpp": REAL_STREAMS // REAL_WORKERS}

    def followed_one() -> str:
        return newcomers_go_to(crowd.streams, SIMULATED, NEWCOMERS_BEFORE)

    def chosen() -> dict[str, str]:
        found = {}
        for engine in scenario.engines:
            by_newcomers = followed and engine == "simulated"
            names = [followed_one()] if by_newcomers else pool.may_be_struck(engine)
            found[engine] = choose(crowd.streams, names, scenario.when, max(1, shares[engine] // ENOUGH))
        return found

    def missing() -> str:
        names = [name for engine in scenario.engines for name in pool.may_be_struck(engine)]
        each = "; ".join(f"{name} {seen(crowd.streams, name)}" for name in names)
        whom = f", where newcomers go ({followed_one() or 'they go to several'})" if followed else ""
        return f"a worker of each engine with enough streams {scenario.when}{whom}: {each}; {crowd}"

    await crowd.until(lambda: all(chosen().values()), STATE_WITHIN_S, missing)
    pool.victims = chosen()


async def _strike(scenario: Scenario, stage: Stage, course: Course, crowd: Crowd) -> None:
    """The fault, for as long as it lasts, what follows, and every answer to its end."""
    watcher = asyncio.create_task(_watch(stage.pool, course, scenario.engines))
    try:
        course.struck_at = time.monotonic()
        if scenario.ends_router and stage.pool.router.door_stays_open:
            crowd.newcomers_come("")
        await scenario.strike(stage)
        course.struck_at = stage.struck_at or course.struck_at
        await _last(scenario, course)
        course.ended_at = time.monotonic()
        await scenario.later(stage)
        await asyncio.sleep(max(0.0, course.struck_at + NEWCOMERS_S - time.monotonic()))
        if scenario.ends_router:
            crowd.ask(crowd.newcomers(AFTER_RESTART))
        await crowd.end()
    finally:
        watcher.cancel()


async def _last(scenario: Scenario, course: Course) -> None:
    """As long as the scenario wants, and until all victims have been noticed."""
    if not scenario.lasts_s:
        return
    await asyncio.sleep(max(0.0, course.struck_at + scenario.lasts_s - time.monotonic()))
    if scenario.leaves:

        async def noticed() -> bool:
            return course.victims.keys() <= course.noticed_at.keys()

        await until(noticed, NOTICED_WITHIN_S, f"the fleet table shows all victims as out ({course.notes})")


async def rows_of(scenario: Scenario, course: Course, real: RealAnswers, serving: Serving) -> list[Row]:
    """Every stream's content checked, everything counted."""
    rows = []
    for engine in scenario.engines:
        mine = [one for one in course.streams if one.model == MODELS[engine]]
        if engine == "simulated":
            wrong = sum(map(simulated_wrong, mine))
        else:
            wrong = sum(await asyncio.gather(*(real.wrong(one) for one in mine)))
        rows.append(
            make_row(
                fault=scenario.name,
                engine=engine,
                router=serving,
                streams=mine,
                tokens_wrong=wrong,
                struck_at=course.struck_at,
                fails_by_design=scenario.ends_router,
                stop=_stop(scenario, course, engine),
                expected=_expected(scenario, engine),
                notes=course.notes,
            )
        )
    return rows


def _expected(scenario: Scenario, engine: str) -> dict[str, float]:
    found: dict[str, float] = {"continued": 1.0} if scenario.leaves else {}
    bounds = scenario.bounds if engine == "simulated" else None
    if bounds is not None:  # the real model's times are reported, not judged: it shares two cores with all others
        found["longest_stall_s"] = bounds.stall_s
        if bounds.stop_s is not None:
            found |= {"stop_placing_s": bounds.stop_s, "probes": MOST_PROBES}
            if scenario.when is Moment.MID_STREAM:
                found["placed_before"] = NEWCOMERS_BEFORE
    return found


def _stop(scenario: Scenario, course: Course, engine: str) -> Stop | None:
    if not scenario.leaves:
        return None
    noticed = course.noticed_at.get(engine)
    return stop_of(course.placements, course.victims[engine], course.struck_at, noticed, course.ended_at)


async def _watch(pool: ChaosPool, course: Course, engines: Sequence[str]) -> None:
    """Note when the fleet table first shows each victim as not to be used."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            fleet = await pool.fleet()
            for engine in engines:
                row = fleet.get(pool.victims[engine], {})
                if row.get("state") != "ready" or row.get("suspended_s", 0.0) > 0.0:
                    course.noticed_at.setdefault(engine, time.monotonic())
        await asyncio.sleep(LOOK_EVERY_S)


async def _placements(session: aiohttp.ClientSession, url: str, streams: Sequence[Stream]) -> list[Placement]:
    """Every decision of these requests, from the router's own records."""
    room = asyncio.Semaphore(16)

    async def records(request_id: str) -> list[dict[str, Any]]:
        async with room, session.get(f"{url}/admin/explain/{request_id}") as reply:
            return list((await reply.json())["records"]) if reply.status == 200 else []

    asked = [one for one in streams if one.request_id]
    found = await asyncio.gather(*(records(one.request_id) for one in asked))
    without = sum(one.completed and not some for one, some in zip(asked, found, strict=True))
    if without:  # it would pass for a router that stopped placing at once
        raise NotReached(f"the router has no decision of {without} of {len(asked)} requests it answered")
    return [
        Placement(at=one["facts"]["now"], worker_id=one["picked"], newcomer=is_newcomer(stream))
        for stream, some in zip(asked, found, strict=True)
        for one in some
    ]


async def _record_figures(session: aiohttp.ClientSession, pool: ChaosPool) -> dict[str, Any]:
    """How many decision records the disk has, and how many it lost."""
    async with session.get(f"{pool.url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    lost = next((float(one.split()[1]) for one in lines if one.startswith("allsorts_records_lost_total ")), 0.0)
    return {"records_lost": int(lost)}


@contextlib.asynccontextmanager
async def _clients() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # each is a client of its own
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session
