"""The simulated engine on a real clock, behind the same interface as every other engine.

One model at a time per profile; several models share the machine only in so far as each has a core of its own.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from protos.contract.events import CacheChange
from protos.contract.models.instance import instance_of
from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import Accepted, Delta, FinishReason, RefusalCode
from protos.contract.worker import Capabilities, Load, ModelInstance
from workers.engines.base import Counted, Embedded, EngineFailed, LoadError, ModelSpec, Progress, Refused, StepResult
from workers.engines.load_sum import sum_of_loads
from workers.engines.model_table import ModelTable
from workers.engines.simulated import content
from workers.engines.simulated.batch.core import NEVER, SimulatedCore
from workers.engines.simulated.batch.sequence import EventKind, SequenceKey
from workers.engines.simulated.content import FINGERPRINT, count_prompt
from workers.engines.simulated.delivery import Speaker, speaker_for
from workers.engines.simulated.faults import NO_FAULT, POLL_S, ControlFile, Fault, FaultError
from workers.engines.simulated.profile import ProfileError, SimulatedProfile, read_profile
from workers.engines.simulated.scripted import GRAMMARS, OUTPUT_FORMAT
from workers.engines.simulated.spec import Simulated

log = structlog.get_logger(__name__)

MAX_WAITING = 4096
"""Jobs a model queues; beyond it the answer is BUSY."""

_ABLE = Capabilities(
    can_continue=True,
    can_embed=True,
    logprobs=True,
    seed=True,
    can_load=True,
    publishes_cache=True,
    tools=True,
    vision=True,
    reasoning=True,
    prompt_logprobs=True,
    grammars=GRAMMARS,
)


@dataclass(slots=True)
class _Model:
    """One loaded model: its core, its jobs, what was said and not yet read."""

    loaded: ModelInstance
    profile: SimulatedProfile
    core: SimulatedCore
    control: ControlFile | None
    speakers: dict[SequenceKey, Speaker] = field(default_factory=dict)
    ended: list[Delta] = field(default_factory=list)


class SimulatedEngine(ModelTable[_Model]):
    """See ``workers.engines.base.Engine``. Options of a model: ``shape`` (a name in profile.SHAPES), ``seed``,
    ``control`` (path of the control file, see ``faults``).
    """

    kind = Simulated.name
    version = "1"

    def __init__(self) -> None:
        super().__init__()
        self._leftovers: list[Delta] = []
        self._wake = asyncio.Event()
        self._dead = ""
        self._fault: Fault = NO_FAULT
        self._stalled_until = NEVER
        self._polled_at = 0.0

    # ------------------------------------------------------------ models

    async def start_model(self, spec: ModelSpec, progress: Progress) -> _Model:
        """Read the profile and take as long as the machine would. Raises LoadError."""
        profile = _read(spec)
        parts = 10
        for part in range(parts):
            progress(part / parts, "reading weights")
            await asyncio.sleep(profile.declared.load_s / parts)
        core = SimulatedCore(profile.true, random.Random(profile.behaviour.seed))
        self._wake.set()
        return _Model(_loaded(spec, profile), profile, core, _control(spec))

    async def stop_model(self, held: _Model, reason: str) -> None:
        """Forget a model; what it ran ends aborted."""
        now = time.monotonic()
        for key in list(held.speakers):
            self._abort(held, key, now, reason)
        self._leftovers.extend(held.ended)
        self._wake.set()
        await asyncio.sleep(held.profile.declared.unload_s)

    # ------------------------------------------------------------ jobs

    async def submit(self, job: Job) -> Accepted:
        """Count and queue. Raises Refused, EngineFailed."""
        if self._dead:
            raise EngineFailed(self._dead)
        model = self.find(job.model, job.quantization)
        prompt_tokens = count_prompt(job)
        limit = model.loaded.context_tokens
        behaviour = model.profile.behaviour
        speaker = speaker_for(
            job,
            prompt_tokens=prompt_tokens,
            context_tokens=limit,
            mu=behaviour.answer_mu,
            sigma=behaviour.answer_sigma,
            salt=behaviour.salt,
        )
        asked = job.sampling.max_tokens
        if speaker.sequence.output_tokens < 1 or (asked is not None and prompt_tokens + asked > limit):
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"{prompt_tokens} prompt tokens and {asked or 1} of output do not fit a context of {limit}",
                prompt_tokens=prompt_tokens,
                max_tokens=asked or 0,
                context_tokens=limit,
            )
        if len(model.core) >= MAX_WAITING:
            raise Refused(RefusalCode.BUSY, f"{MAX_WAITING} requests are here already")
        now = time.monotonic()
        self._collect(model, now)
        model.speakers[speaker.sequence.key] = speaker
        model.core.submit(now, speaker.sequence)
        self._wake.set()
        return Accepted(
            request_id=job.request_id,
            attempt=job.attempt,
            prompt_tokens=prompt_tokens,
            cached_tokens=speaker.sequence.cached_tokens,
        )

    async def embed(self, model: str, quantization: str, asked: EmbeddingInputs, counted: Counted) -> Embedded:
        """Vectors after as long as the prompt would take to prefill. Raises Refused, EngineFailed."""
        if self._dead:
            raise EngineFailed(self._dead)
        held = self.find(model, quantization)
        sizes = [content.count_input(one) for one in asked.inputs]
        longest = max(sizes, default=0)
        if longest > held.loaded.context_tokens:
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"an input has {longest} tokens; {held.loaded.context_tokens} fit",
                prompt_tokens=longest,
                context_tokens=held.loaded.context_tokens,
                parameter="input",
            )
        counted(sum(sizes))
        await asyncio.sleep(held.profile.true.prefill_token_s * sum(sizes))
        return Embedded(
            vectors=tuple(content.vector(one, asked.dimensions) for one in asked.inputs), prompt_tokens=sum(sizes)
        )

    def abort(self, request_id: str, attempt: int) -> None:
        """End a job; unknown ones are ignored."""
        key = (request_id, attempt)
        for model in self.held():
            if key in model.speakers:
                self._abort(model, key, time.monotonic())
                self._wake.set()

    async def steps(self) -> AsyncIterator[StepResult]:
        """One result per engine step with news. Raises EngineFailed when a fault kills the engine."""
        while True:
            now = time.monotonic()
            self._poll_faults(now)
            if self._dead:
                raise EngineFailed(self._dead)
            result = self._result(now)
            if result is not None:
                yield result
            await self._sleep(time.monotonic())

    def load_figures(self) -> Load:
        """The load now, all models together; zeros when told to lie."""
        if self._fault.lie == "idle":
            return Load()
        now = time.monotonic()
        loads = [model.core.load(now) for model in self.held()]
        if len(loads) == 1:
            return loads[0]
        return sum_of_loads(loads)

    # ------------------------------------------------------------ inside

    def _abort(self, model: _Model, key: SequenceKey, now: float, reason: str = "") -> None:
        self._collect(model, now)
        speaker = model.speakers.pop(key, None)
        if speaker is None:
            return  # it ended in the meantime
        model.core.abort(now, key)
        produced = max(speaker.sequence.produced_before, speaker.said)
        delta = speaker.speak(produced, FinishReason.ABORTED, reason)
        assert delta is not None
        model.ended.append(delta)

    def _collect(self, model: _Model, now: float) -> None:
        """Bring the core up to now; ended jobs become their last deltas."""
        for event in model.core.step(now):
            if event.kind is EventKind.FINISHED:
                speaker = model.speakers.pop(event.sequence.key, None)
                if speaker is not None:
                    delta = speaker.speak(event.sequence.output_tokens, speaker.reason)
                    assert delta is not None
                    model.ended.append(delta)

    def _result(self, now: float) -> StepResult | None:
        deltas, self._leftovers = self._leftovers, []
        changes: list[CacheChange] = []
        for model in self.held():
            self._collect(model, now)
            deltas += model.ended
            model.ended = []
            for speaker in model.speakers.values():
                delta = speaker.speak(model.core.produced(speaker.sequence, now), None)
                if delta is not None:
                    deltas.append(delta)
            stored, evicted = model.core.cache.drain_changes()
            if stored or evicted:
                changes.append(
                    CacheChange(
                        model=model.loaded.model, quantization=model.loaded.quantization, stored=stored, evicted=evicted
                    )
                )
        if not deltas and not changes:
            return None
        return StepResult(deltas=tuple(deltas), load=self.load_figures(), cache=tuple(changes))

    async def _sleep(self, now: float) -> None:
        """Until the next step boundary, a new job, or the next look at the control file."""
        until = min((model.core.next_step_at(now) for model in self.held()), default=NEVER)
        if any(model.control for model in self.held()):
            until = min(until, self._polled_at + POLL_S)
        if self._wake.is_set():
            self._wake.clear()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if until == NEVER else max(until - now, 0.0) + 1e-5):
                await self._wake.wait()  # not wait_for: it loses a cancellation that comes with the wake
        self._wake.clear()

    # ------------------------------------------------------------ faults

    def inject(self, fault: Fault) -> None:
        """Change what is wrong, as the control file does."""
        now = time.monotonic()
        old, self._fault = self._fault, fault
        self._stalled_until = now + fault.stall_s if fault.stall_s else NEVER
        for model in self.held():
            self._collect(model, now)
            if fault.hang or fault.stall_s:
                model.core.hold(now)
            else:
                model.core.release(now)
            if fault.slow != old.slow:
                model.core.slow(now, fault.slow)
        if fault.crash:
            self._dead = fault.crash
        self._wake.set()
        if fault != old:
            log.warning("engine.fault", fault=repr(fault))
        if fault.exit is not None:
            os._exit(fault.exit)

    def _poll_faults(self, now: float) -> None:
        if self._fault.stall_s and now >= self._stalled_until:
            self._stalled_until = NEVER
            for model in self.held():
                model.core.release(now)
        if now < self._polled_at + POLL_S:
            return
        self._polled_at = now
        for model in self.held():
            try:
                fault = model.control.changed() if model.control is not None else None
            except FaultError as error:
                log.error("engine.fault_unreadable", reason=str(error))
                continue
            if fault is not None:
                self.inject(fault)


def _read(spec: ModelSpec) -> SimulatedProfile:
    seed = spec.options.get("seed")
    try:
        return read_profile(
            spec.path,
            quantization=spec.quantization,
            shape=str(spec.options.get("shape", "")),
            context_tokens=spec.context_tokens,
            slots=spec.slots,
            seed=None if seed is None else int(seed),
        )
    except ProfileError as error:
        raise LoadError(str(error)) from None


def _control(spec: ModelSpec) -> ControlFile | None:
    """Where faults are asked for: the option ``control``, or beside a profile that is a file."""
    named = str(spec.options.get("control", ""))
    if not named and not Path(spec.path).is_file():
        return None
    return ControlFile(Path(named or f"{spec.path}.control"))


def _loaded(spec: ModelSpec, profile: SimulatedProfile) -> ModelInstance:
    declared = profile.declared
    stored = replace(profile.shape, weights_bytes=int(profile.weights_bytes), quantization=profile.quantization)
    return replace(
        instance_of(stored, model=spec.name, file_format="simulated", file=Path(spec.path).name),
        context_tokens=declared.context_tokens,
        slots=declared.slots,
        capabilities=_ABLE,
        kv_capacity_tokens=declared.kv_capacity_tokens,
        block_tokens=64,
        tokenizer_fingerprint=FINGERPRINT,
        tokens_per_byte=0.15,
        output_format=OUTPUT_FORMAT,
    )
