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
from loadtest.chaos.pool import REAL, SIMULATED, SIMULATED_WORKERS, VICTIMS, ChaosPool, until
from loadtest.chaos.routers import Serving
from loadtest.chaos.rows import Placement, Row, Stop, make_row, stop_of
from loadtest.chaos.scenarios import Scenario, Stage
from loadtest.chaos.streams import Stream
from loadtest.chaos.streams import run as run_stream
from workers.engines.simulated.content import WORDS

SIMULATED_TOKENS, REAL_TOKENS = 120, 64
REAL_STREAMS = 16
MODELS = {"simulated": SIMULATED, "llama.cpp": REAL}

NEWCOMERS_S, BEFORE_S = 12.0, 2.0
"""For so long after the strike, and before it, new, short requests come: ten a second, every tenth of them for the real
model."""

NEWCOMER_GAP_S, NEWCOMER_TOKENS = 0.1, 3
LOOK_EVERY_S = 0.1
BACK_WITHIN_S = 60.0
MOST_PROBES = 5
"""Half-open trials of a worker that is out, in the ten seconds of the longest fault: pauses double from one second."""
HELD_WORDS, HELD_TRIES = 1500, 5
AFTER_RESTART = 40
"""Requests sent once the restarted router serves again."""


@dataclass(slots=True)
class Course:
    """What happened in one scenario."""

    streams: list[Stream] = field(default_factory=list)
    struck_at: float = 0.0
    ended_at: float = 0.0
    noticed_at: dict[str, float] = field(default_factory=dict)  # victim -> when the fleet table showed it as out
    placements: list[Placement] = field(default_factory=list)
    victims: dict[str, str] = field(default_factory=dict)  # engine -> worker id
    notes: dict[str, Any] = field(default_factory=dict)


async def run_scenario(
    scenario: Scenario, folder: Path, models: dict[str, Path], *, serving: Serving, count: int, seed: int
) -> Course:
    """Let it happen. Raises RuntimeError or TimeoutError when the pool does not come up."""
    course = Course()
    dice = random.Random(f"{seed}/{scenario.name}")
    async with ChaosPool(folder, models, scenario.layout, serving) as pool, _clients() as session:
        course.victims = {engine: pool.victim(engine).worker_id for engine in scenario.engines}
        stage = Stage(pool)
        held = await _held_by_the_victim(dice, session, pool.url) if scenario.leaves else ""
        async with asyncio.TaskGroup() as group:
            for stream in _first_streams(scenario, dice, count):
                course.streams.append(stream)
                group.create_task(run_stream(stream, session, pool.url))
            early = 0.0 if scenario.ends_router else min(BEFORE_S, scenario.strike_at_s)
            await asyncio.sleep(scenario.strike_at_s - early)
            if not scenario.ends_router or pool.router.door_stays_open:
                group.create_task(_newcomers(course, dice, session, pool.url, held, NEWCOMERS_S + early))
            await asyncio.sleep(early)
            watcher = asyncio.create_task(_watch(pool, course, scenario.engines))
            course.struck_at = time.monotonic()
            try:
                await scenario.strike(stage)
                course.struck_at = stage.struck_at or course.struck_at
                await asyncio.sleep(max(0.0, course.struck_at + scenario.later_after_s - time.monotonic()))
                course.ended_at = time.monotonic()
                await scenario.later(stage)
                if scenario.ends_router:
                    await _again(course, dice, session, pool.url)
            finally:
                watcher.cancel()
        if scenario.later_after_s:
            began = time.monotonic()
            await until(pool.all_ready, BACK_WITHIN_S, f"{scenario.name}: the workers were not back")
            stage.notes["back_after_s"] = round(time.monotonic() - began, 2)
        else:
            course.ended_at = time.monotonic()
        if not scenario.ends_router:
            course.placements = await _placements(session, pool.url, course.streams)
        stage.notes |= await _record_figures(session, pool)
        course.notes = stage.notes
    return course


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
            found |= {"stop_placing_s": bounds.stop_s, "placed_before": 1.0, "probes": MOST_PROBES}
    return found


def _stop(scenario: Scenario, course: Course, engine: str) -> Stop | None:
    if not scenario.leaves:
        return None
    noticed = course.noticed_at.get(VICTIMS[engine])
    return stop_of(course.placements, course.victims[engine], course.struck_at, noticed, course.ended_at)


def _first_streams(scenario: Scenario, dice: random.Random, count: int) -> list[Stream]:
    real = REAL_STREAMS if "llama.cpp" in scenario.engines else 0
    return [
        Stream(REAL, _prompt(dice, min(scenario.prompt_words, 200)), REAL_TOKENS)
        if number < real
        else Stream(SIMULATED, _prompt(dice, scenario.prompt_words), SIMULATED_TOKENS)
        for number in range(count)
    ]


def _prompt(dice: random.Random, words: int) -> str:
    return f"Story {dice.randrange(10**9)}: write about " + " ".join(dice.choices(WORDS, k=words))


def _newcomer(dice: random.Random, number: int, held: str = "") -> Stream:
    if number % 10 == 9:
        return Stream(REAL, _prompt(dice, 12), NEWCOMER_TOKENS)
    return Stream(SIMULATED, f"{held} {_prompt(dice, 12)}".strip(), NEWCOMER_TOKENS)


async def _held_by_the_victim(dice: random.Random, session: aiohttp.ClientSession, url: str) -> str:
    """A text in the victim's prefix cache and in nobody else's: who begins with it is sent there, as long as the router
    thinks that it may. Otherwise newcomers might not go to the victim anyway, and that they stopped would say nothing.
    """
    for _ in range(HELD_TRIES):
        streams = [Stream(SIMULATED, _prompt(dice, HELD_WORDS), NEWCOMER_TOKENS) for _ in range(2 * SIMULATED_WORKERS)]
        await asyncio.gather(*(run_stream(stream, session, url) for stream in streams))
        for stream in streams:
            if stream.worker == VICTIMS["simulated"]:
                return stream.prompt
    raise RuntimeError(f"{VICTIMS['simulated']} got none of {HELD_TRIES * 2 * SIMULATED_WORKERS} requests")


async def _newcomers(
    course: Course, dice: random.Random, session: aiohttp.ClientSession, url: str, held: str, for_s: float
) -> None:
    """Short requests, one after the other, whether or not the earlier ones are answered. ``held``: how they begin."""
    async with asyncio.TaskGroup() as group:
        for number in range(int(for_s / NEWCOMER_GAP_S)):
            stream = _newcomer(dice, number, held)
            course.streams.append(stream)
            group.create_task(run_stream(stream, session, url))
            await asyncio.sleep(NEWCOMER_GAP_S)


async def _again(course: Course, dice: random.Random, session: aiohttp.ClientSession, url: str) -> None:
    """Requests to the router that took the place of the one that was killed."""
    streams = [_newcomer(dice, number) for number in range(AFTER_RESTART)]
    course.streams.extend(streams)
    await asyncio.gather(*(run_stream(stream, session, url) for stream in streams))


async def _watch(pool: ChaosPool, course: Course, engines: Sequence[str]) -> None:
    """Note when the fleet table first shows each victim as not to be used."""
    while True:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            fleet = await pool.fleet()
            for name in (VICTIMS[engine] for engine in engines):
                seen = fleet.get(name, {})
                if seen.get("state") != "ready" or seen.get("suspended_s", 0.0) > 0.0:
                    course.noticed_at.setdefault(name, time.monotonic())
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
        raise RuntimeError(f"the router has no decision of {without} of {len(asked)} requests it answered")
    return [
        Placement(at=one["facts"]["now"], worker_id=one["picked"], newcomer=stream.max_tokens == NEWCOMER_TOKENS)
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
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        yield session
