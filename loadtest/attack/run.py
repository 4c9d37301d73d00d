"""One attack against a running pool: idle, under attack, and until everything was given back."""

import asyncio
import sys
import time
from dataclasses import replace

import msgspec

from loadtest.attack.footprint import Footprint, Held
from loadtest.attack.honest import Honest, Seen
from loadtest.attack.pool import MODEL, AttackedPool
from loadtest.attack.rows import GIVEN_BACK_S, MEMORY_MB_OVER_IDLE, PROBE_P99_MS, SHARED_PROBE_P99_MS, Row
from loadtest.attack.stalls import culprits_in, stalls_of
from loadtest.attack.target import Attack, Target
from loadtest.chaos.routers import Serving

BEFORE_S = 2.0
"""Honest clients alone: what is held then is idle."""

LATE_S = 30.0
"""An attacker that has not ended so long after its time is ended."""

NEAR_MB = MEMORY_MB_OVER_IDLE / 2
NEAR_DESCRIPTORS = 24


async def run_attack(attack: Attack, pool: AttackedPool, idle_url: str, *, seconds: float, shared: bool = False) -> Row:
    """What it cost. ``idle_url``: of a server that does nothing else; ``shared``: others work on this machine."""
    footprint = Footprint(pool.router.child.pid, below=pool.serving is Serving.SERVE)
    log_bytes, stalls = pool.log_bytes, await stalls_of(pool.url, pool.headers)
    async with Honest(pool.url, MODEL, pool.key, idle_url=idle_url) as alone:
        await asyncio.sleep(BEFORE_S)
        idle = footprint.now()
    target = Target(
        attack=attack.name, port=pool.port, grpc_port=pool.grpc_port, seconds=seconds, model=MODEL, key=pool.key,
        enrol_port=pool.enrol_port, redis_url=pool.redis_url,
    )  # fmt: skip
    async with footprint, Honest(pool.url, MODEL, pool.key, idle_url=idle_url) as seen:
        saw, complaints = await _attacked(target)
        ended_at = time.monotonic()
    await pool.mend()
    given_back_s = await _until_given_back(footprint, idle, ended_at)
    complaints += attack.after(saw)
    written = pool.log_bytes - log_bytes
    if written > 1024 * attack.log_kb:
        complaints.append(f"{written / 1024:.0f} kB of log")
    row = _row(attack, pool, (alone, seen), footprint, idle, given_back_s, saw, complaints, written)
    stalled = await stalls_of(pool.url, pool.headers)
    return replace(
        row,
        probe_bound_ms=SHARED_PROBE_P99_MS if shared else PROBE_P99_MS,
        loop_stalls=stalled.steps - stalls.steps,
        loop_stalled_s=stalled.seconds - stalls.seconds,
        culprits=tuple(culprits_in(pool.log, log_bytes)),
    )


def _row(
    attack: Attack,
    pool: AttackedPool,
    saw_before_and_then: tuple[Seen, Seen],
    footprint: Footprint,
    idle: Held,
    given_back_s: float | None,
    saw: dict[str, float],
    complaints: list[str],
    log_bytes: int,
) -> Row:
    after = footprint.now()
    alone, seen = saw_before_and_then
    return Row(
        attack=attack.name,
        router=pool.serving.value,
        streams_completed=seen.completed,
        streams_lost=len(seen.lost),
        probe_p99_ms=1000 * seen.probe_p99_s,
        machine_p99_ms=1000 * seen.machine_p99_s,
        probe_p99_idle_ms=1000 * alone.probe_p99_s,
        probes_failed=seen.probes_failed,
        memory_mb_idle=idle.memory_mb,
        memory_mb_over_idle=footprint.most.memory_mb - idle.memory_mb,
        memory_mb_over_idle_after=after.memory_mb - idle.memory_mb,
        descriptors_idle=idle.descriptors,
        descriptors_most=footprint.most.descriptors,
        descriptors_after=after.descriptors,
        given_back_s=given_back_s,
        log_kb=log_bytes / 1024,
        loop_stalls=0,
        loop_stalled_s=0.0,
        culprits=(),
        saw=saw,
        errors=tuple(sorted(set(seen.lost)))[:5],
        complaints=tuple(complaints),
    )


async def _attacked(target: Target) -> tuple[dict[str, float], list[str]]:
    """What the attacker saw, and what went wrong with the attack itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtest.attack.attacker", msgspec.json.encode(target).decode(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(target.seconds + LATE_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return {}, ["the attacker did not end"]
    if process.returncode:
        return {}, [f"the attack could not be run: {err.decode(errors='replace').strip().splitlines()[-3:]}"]
    return msgspec.json.decode(out, type=dict[str, float]), []


async def _until_given_back(footprint: Footprint, idle: Held, ended_at: float) -> float | None:
    while time.monotonic() - ended_at < GIVEN_BACK_S:
        now = footprint.now()
        if now.descriptors <= idle.descriptors + NEAR_DESCRIPTORS and now.memory_mb <= idle.memory_mb + NEAR_MB:
            return time.monotonic() - ended_at
        await asyncio.sleep(0.5)
    return None
