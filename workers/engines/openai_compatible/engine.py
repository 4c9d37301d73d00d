"""A server that already runs, as an engine: its models are this worker's models, its failures our errors."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator

import msgspec
import structlog

from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import Accepted, Delta, FinishReason, RefusalCode
from protos.contract.worker import Load, ModelInstance
from workers.engines.base import Counted, Embedded, LoadError, ModelSpec, Progress, Refused, StepResult
from workers.engines.model_table import ModelTable
from workers.engines.openai_compatible.answers.stream import Running, deltas_of
from workers.engines.openai_compatible.discovery import facts_about
from workers.engines.openai_compatible.features.abilities import abilities, owner_says
from workers.engines.openai_compatible.features.embeddings import MAX_BYTES, embedded, embedding_body
from workers.engines.openai_compatible.refusals import MAX_ERROR_BYTES, estimated_prompt_tokens, refusal
from workers.engines.openai_compatible.requests import Flavor
from workers.engines.openai_compatible.server_client import ServerClient, Unreachable
from workers.engines.openai_compatible.servers import ServerFacts
from workers.engines.openai_compatible.slot_gate import SlotGate
from workers.engines.openai_compatible.slot_window import SlotWindow
from workers.engines.openai_compatible.spec import OpenAICompatible
from workers.engines.openai_compatible.upstream import TokenRate, Upstream

log = structlog.get_logger(__name__)

SLOTS = {Flavor.OLLAMA: 4, Flavor.LM_STUDIO: 4}
"""What they work on at once unless their owner sets more (OLLAMA_NUM_PARALLEL, LM Studio's parallel requests)."""
MOST_SLOTS = 256
"""Of any other server that does not tell: vLLM's default batch. How many really go there, ``SlotWindow`` finds out."""
DEFAULT_CONTEXT_TOKENS = 4096
WAITING_PER_SLOT = 4
"""Jobs that may wait for a slot here; beyond it the answer is BUSY."""

GATHER_S = 0.005
"""How long output in the middle of an answer may wait for that of other streams."""

ANSWER_GRACE_S = 1.0
"""How long acceptance waits for the server's status: a refusal comes at once, a stream only after its prefill."""

Key = tuple[str, int]


class OpenAICompatibleEngine(ModelTable[Upstream]):
    """Implements ``workers.engines.base.Engine`` over HTTP."""

    kind = OpenAICompatible.name

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[Key, Running] = {}
        self._deltas: list[Delta] = []
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()  # something came that somebody waits for
        self._rate = TokenRate()
        self._version = ""
        self._sequence = 0
        self._prefilled = 0

    @property
    def version(self) -> str:
        """The server's own version, where it tells."""
        return self._version

    # ------------------------------------------------------------ models

    async def start_model(self, spec: ModelSpec, progress: Progress) -> Upstream:
        """Find the model on the server at ``spec.path``; ``options``: ``upstream_model``, ``api_key_env``."""
        if "@" in spec.name:  # as the server named it, with something else than a quantization behind it
            raise LoadError(
                f"no client can ask for '{spec.name}', as @ parts name and quantization; give it another name: "
                f"--model NAME={spec.options.get('upstream_model') or spec.name}"
            )
        key_name = str(spec.options.get("api_key_env", ""))
        client = ServerClient(spec.path, os.environ.get(key_name, "") if key_name else "")
        progress(0.1, f"asking {spec.path}")
        try:
            facts = await facts_about(client, str(spec.options.get("upstream_model", "")))
        except BaseException:
            await client.close()
            raise
        loaded = _loaded(spec, facts)
        self._version = facts.version or self._version
        upstream = Upstream(
            client=client,
            model=facts.model,
            flavor=facts.flavor,
            loaded=loaded,
            slots=SlotGate(SlotWindow(most=loaded.slots, fixed=bool(spec.slots or facts.slots))),
        )
        upstream.watcher = asyncio.create_task(upstream.watch(), name=f"health of {spec.path}")
        progress(1.0, f"{facts.flavor} has {facts.model}")
        return upstream

    async def stop_model(self, held: Upstream, reason: str) -> None:
        """Stop using the server; what runs on it is aborted."""
        log.debug("upstream.closed", base_url=held.base_url, reason=reason)
        mine = [one for one in self._running.values() if one.upstream is held]
        for running in mine:
            self.abort(running.job.request_id, running.job.attempt)
        tasks = [one.task for one in mine if one.task is not None]
        if held.watcher is not None:
            held.watcher.cancel()
            tasks.append(held.watcher)
        await asyncio.gather(*tasks, return_exceptions=True)
        await held.client.close()

    # ------------------------------------------------------------ jobs

    async def submit(self, job: Job) -> Accepted:
        """Send the job to the server, or queue it for a slot. Raises Refused with the server's own reason."""
        upstream = self.find(job.model, job.quantization)
        if upstream.down:
            raise Refused(RefusalCode.ENGINE_FAILED, upstream.down)
        prompt_tokens = self._count(job, upstream)
        mine = sum(one.upstream is upstream for one in self._running.values())
        if mine >= upstream.loaded.slots * (1 + WAITING_PER_SLOT):
            raise Refused(RefusalCode.BUSY, f"{mine} requests are at {upstream.base_url} already")
        running = Running(job=job, upstream=upstream, prompt_tokens=prompt_tokens)
        key = (job.request_id, job.attempt)
        self._running[key] = running
        running.task = asyncio.create_task(self._run(key, running), name=f"upstream {job.request_id}")
        if upstream.slots.open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_GRACE_S):
                    await asyncio.shield(running.taken)
        if running.taken.done():
            running.taken.result()  # raises the server's refusal
        running.accepted = True
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=prompt_tokens)

    async def embed(self, model: str, quantization: str, asked: EmbeddingInputs, counted: Counted) -> Embedded:
        """The server's own vectors. Raises Refused with its reason."""
        upstream = self.find(model, quantization)
        if not upstream.loaded.capabilities.can_embed:
            return await super().embed(model, quantization, asked, counted)
        body = msgspec.json.encode(embedding_body(asked, upstream.model))
        try:
            async with upstream.client.stream("embeddings", body) as reply:
                said = await reply.body(MAX_BYTES)
                if reply.status != 200:
                    raise refusal(reply.status, said[:MAX_ERROR_BYTES].decode(errors="replace"), upstream, 0)
        except Unreachable as error:
            raise Refused(RefusalCode.ENGINE_FAILED, f"the server at {upstream.base_url} broke off: {error}") from None
        try:
            found = embedded(json.loads(said), asked)
        except (ValueError, RecursionError):
            found = None
        if found is None:
            reason = f"the server at {upstream.base_url} did not answer with a vector for each input"
            raise Refused(RefusalCode.ENGINE_FAILED, reason)
        counted(found.prompt_tokens)
        return found

    def _count(self, job: Job, upstream: Upstream) -> int:
        prompt_tokens = estimated_prompt_tokens(job)
        context = upstream.loaded.context_tokens
        if isinstance(job.prompt, tuple) and prompt_tokens >= context:  # only token ids are counted exactly
            raise Refused(
                RefusalCode.CONTEXT_LENGTH,
                f"the prompt has {prompt_tokens} tokens; {context} fit",
                prompt_tokens=prompt_tokens,
                context_tokens=context,
                max_tokens=job.sampling.max_tokens or 0,
            )
        if job.continue_from is not None and job.continue_from.text and not upstream.loaded.capabilities.can_continue:
            raise Refused(RefusalCode.UNSUPPORTED, f"the server at {upstream.base_url} cannot continue a text")
        return prompt_tokens

    async def _run(self, key: Key, running: Running) -> None:
        slots = running.upstream.slots
        try:
            async with slots:
                running.started = True
                async with contextlib.aclosing(deltas_of(running)) as deltas:
                    async for delta in deltas:
                        if delta.position == 0 and delta.token_count:
                            self._prefilled += running.prompt_tokens
                        self._emit(delta)
                slots.window.went_well(slots.running)
        except Refused as refused:
            if refused.code is RefusalCode.BUSY:
                slots.window.full(slots.running)
            self._refused(running, refused)
        except Exception as error:
            log.exception("upstream.job_failed", request_id=running.job.request_id, base_url=running.upstream.base_url)
            self._refused(running, Refused(RefusalCode.ENGINE_FAILED, f"{type(error).__name__}: {error}"))
        finally:
            if not running.taken.done():
                running.taken.set_result(None)
            self._running.pop(key, None)
            slots.wake()
            self._wake.set()

    def _refused(self, running: Running, refused: Refused) -> None:
        if running.accepted or running.taken.done():  # too late for a refusal: it waited for a slot, or had begun
            if not running.finished:
                self._emit(running.broke_off(refused.message))
        else:
            running.taken.set_exception(refused)

    def abort(self, request_id: str, attempt: int) -> None:
        """Close the job's connection; the server stops when it notices."""
        running = self._running.pop((request_id, attempt), None)
        if running is not None and running.task is not None:
            running.task.cancel()
            if not running.finished:
                self._emit(running.delta(reason=FinishReason.ABORTED))

    # ------------------------------------------------------------ results

    def _emit(self, delta: Delta) -> None:
        if delta.token_count:
            self._rate.add(delta.token_count, time.monotonic())
        self._deltas.append(delta)
        if delta.position == 0 or delta.finish_reason is not None:
            self._urgent.set()
        self._wake.set()

    async def steps(self) -> AsyncIterator[StepResult]:
        """Whatever came since the last one. A first token or an end goes on at once; in between, what many streams
        bring within GATHER_S makes one result: each costs this process and the router as much as its tokens.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)  # chunks of one server step arrive in one turn of the loop
            if not self._urgent.is_set() and len(self._running) > 1:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._urgent.wait()
            self._urgent.clear()
            deltas, self._deltas = self._deltas, []
            self._sequence += 1
            yield StepResult(deltas=tuple(deltas), load=self.load_figures())

    def load_figures(self) -> Load:
        """The load of what goes through here, and, where the server tells its own, of all that it has.

        ``step_sequence`` also grows with every health check that is answered: a long prefill shows no steps.
        """
        jobs = list(self._running.values())
        started = [one for one in jobs if one.started]
        slots = sum(one.loaded.slots for one in self.held())
        others = [one.others for one in self.held() if one.others is not None]
        return Load(
            running=len(started) + sum(one.running for one in others),
            waiting=len(jobs) - len(started) + sum(one.waiting for one in others),
            prefill_tokens_pending=sum(one.prompt_tokens for one in jobs if one.position == 0),
            context_tokens=sum(one.prompt_tokens + one.position for one in started),
            expected_remaining_tokens=sum(max(0, one.job.expected_output_tokens - one.position) for one in jobs),
            kv_used=max((one.kv_used for one in others), default=min(1.0, len(started) / slots) if slots else 0.0),
            step_sequence=self._sequence + sum(one.alive_count for one in self.held()),
            prefill_progress=self._prefilled,
            tokens_per_s=self._rate.now(),
        )


def _loaded(spec: ModelSpec, facts: ServerFacts) -> ModelInstance:
    return ModelInstance(
        model=spec.name,
        quantization=spec.quantization or facts.quantization or "unknown",
        format="remote",
        context_tokens=spec.context_tokens or facts.context_tokens or DEFAULT_CONTEXT_TOKENS,
        slots=spec.slots or facts.slots or SLOTS.get(facts.flavor, MOST_SLOTS),
        capabilities=abilities(facts.flavor, facts.told, owner_says(spec.options)),
        weights_bytes=facts.weights_bytes,
        parameters=facts.parameters,
        active_parameters=facts.parameters,
        bits_per_weight=8 * facts.weights_bytes / facts.parameters if facts.parameters else 0.0,
        file=facts.model,
    )
