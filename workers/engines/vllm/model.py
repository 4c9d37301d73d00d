"""One model in one vLLM engine: started, fed, listened to and stopped."""

import asyncio
import contextlib
import ctypes
import gc
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from protos.contract.events import CacheChange, DraftReport
from protos.contract.grammar import GrammarKind
from protos.contract.models.instance import instance_of
from protos.contract.request import Job, Sampling
from protos.contract.stream import Accepted, Delta, FinishReason, RefusalCode
from protos.contract.worker import Capabilities, Load, ModelInstance
from workers.drafting.link import DraftLink
from workers.engines.base import EngineFailed, Refused, Scored
from workers.engines.echo import echo_of
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.grammar.rules import kept_to
from workers.engines.prompts import Prepared, Prompts, tokens_per_byte
from workers.engines.speech import Speech
from workers.engines.templates.chat_template import template_of, with_chat
from workers.engines.templates.dialogue import dialogue_of
from workers.engines.vllm.core.cache_events import CacheEvents
from workers.engines.vllm.core.cache_mirror import CacheMirror
from workers.engines.vllm.core.core_log import reason_in
from workers.engines.vllm.core.launch import Launched
from workers.engines.vllm.drafting.assignment import EngineEnd
from workers.engines.vllm.pictures import pictures_of, sees
from workers.engines.vllm.running import Running
from workers.engines.vllm.sampling import (
    output_of,
    refuse_beside_speculation,
    sampling_parameters,
    scores_of,
    scoring_parameters,
)
from workers.engines.vllm.structured import COMPACT, structured_fields
from workers.engines.vllm.vocabulary import Vocabulary

log = structlog.get_logger(__name__)

TEXT_BLOCK_BYTES = 256
"""Bytes of text that one of a job's ``block_hashes`` stands for (the contract)."""

WATCH_S = 0.25
"""How often the core process is asked whether it lives; a dead one also ends what runs by itself."""
SCORE_DEADLINE_S = 120.0

Key = tuple[str, int]


class VllmModel:
    """Owns an AsyncLLM. ``emit`` takes deltas, ``failed`` the reason when the core died, ``changed`` any news."""

    def __init__(
        self,
        launched: Launched,
        vocabulary: Vocabulary,
        *,
        emit: Callable[[Delta], None],
        failed: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._llm: Any = launched.llm
        self._options = launched.options
        self._statistics = launched.statistics
        self._vocabulary = vocabulary
        self._emit, self._failed = emit, failed
        self._running: dict[Key, Running] = {}
        self._number = 0
        template = template_of(
            vocabulary.template,
            launched.options.chat_template,
            model=launched.spec.name,
            start=vocabulary.start_text,
            end=vocabulary.end_text,
        )
        self.loaded = with_chat(loaded_model(launched, vocabulary), template)
        self._marks = {} if template is None else vocabulary.marks(template.marks)
        self._grammars = GrammarCompiler(lambda: vocabulary.token_table(self._ends))
        self._dialogue = dialogue_of(template, self._marks, thinks_first=False, style=COMPACT)
        self._ends = frozenset(launched.model.end_tokens) | frozenset({vocabulary.end_token} - {-1})
        self._prompts = Prompts(
            vocabulary, template, self.loaded.context_tokens, self.loaded.tokenizer_fingerprint, self._marks
        )
        self._mirror = CacheMirror(self.loaded.block_tokens)
        self._events = CacheEvents(launched.events_at, self._mirror, changed) if launched.events_at else None
        self._drafts = EngineEnd(launched.drafts_at) if launched.drafts_at else None
        self._last_words = partial(reason_in, launched.folder, launched.since)  # not ``launched``: it holds the llm
        self._watcher: asyncio.Task[None] | None = None

    async def warm_up(self) -> None:
        """The first use of each path costs seconds: sampling, log-probabilities, the prompt's log-probabilities.

        Raises what vLLM raises: a model that loads may yet kill the core with its first step, or compute no numbers.
        Afterwards the core's death is the engine's.
        """
        tokens = self._vocabulary.tokenize("Hello, world", special=False, add_start=False)
        greedy = Sampling(temperature=0.0, logprobs=True, top_logprobs=2)
        for number, parameters in enumerate((sampling_parameters(greedy, 2, self._ends), scoring_parameters())):
            async for result in self._llm.generate({"prompt_token_ids": tokens}, parameters, f"warm-up-{number}"):
                last = result
        if not all(map(math.isfinite, scores_of(tokens, last.prompt_logprobs))):
            raise ArithmeticError("what it computes are not numbers: its quantization is not supported on this device")
        self._watcher = asyncio.create_task(self._watch(), name=f"vllm core of {self.loaded.model}")

    # ------------------------------------------------------------ jobs

    async def submit(self, job: Job) -> Accepted:
        """Count, then hand the job to vLLM. Raises Refused."""
        prepared, speech, structured, pictures = await asyncio.to_thread(self._prepare, job)
        waiting = self.figures.waiting
        if waiting >= self._options.queue_limit:
            raise Refused(RefusalCode.BUSY, f"{waiting} requests wait here already; the limit is reached")
        self._number += 1
        running = Running(
            job=job,
            prepared=prepared,
            piece=self._piece,
            ends=self._ends,
            speech=speech,
            structured=structured,
            pictures=pictures,
            echo=echo_of(
                replace(job.sampling, logprobs=False), prepared.prompt, self._vocabulary.start_token, self._piece
            ),
            engine_id=f"{job.request_id}-{job.attempt}-{self._number}",
        )
        if self._events is not None and not pictures:
            self._mirror.prompt(prepared.tokens, job.block_hashes, _text_bytes(job), TEXT_BLOCK_BYTES)
        self._running[running.key] = running
        running.task = asyncio.create_task(self._run(running), name=f"vllm {job.request_id}")
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=len(prepared.prompt))

    def _piece(self, token: int) -> bytes:
        return self._marks.get(token) or self._vocabulary.piece(token)

    def _prepare(self, job: Job) -> tuple[Prepared, Speech, dict[str, Any] | None, list[Any]]:
        """Count, and compile what the answer is kept to. Blocks; raises Refused."""
        if self._options.speculate:
            refuse_beside_speculation(job.sampling)
        pictures = pictures_of(job) if self.loaded.capabilities.vision else []
        prepared = self._prompts.prepare(job)
        channels = None if self._dialogue is None else self._dialogue.channels(job, prepared.text)
        sent = job.continue_from.text if job.continue_from is not None else ""
        kept = kept_to(job, self._dialogue, self._grammars)
        if kept is not None and sent:
            reason = "vLLM cannot go on within an answer that is kept to a grammar"
            raise Refused(RefusalCode.UNSUPPORTED, reason, parameter="response_format")
        structured = None if kept is None else structured_fields(kept[0], self._grammars)
        return prepared, Speech(job.sampling.stop, channels, sent), structured, pictures

    async def _run(self, running: Running) -> None:
        job = running.job
        try:
            async with asyncio.timeout(job.deadline_s if job.deadline_s > 0 else None):
                await self._listen(running)
        except TimeoutError:
            self._end(running, FinishReason.ABORTED, "the request's deadline passed")
        except asyncio.CancelledError:
            self._end(running, FinishReason.ABORTED)
            raise
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises must end the job, not the worker
            self._end(running, FinishReason.ERROR, f"vLLM: {_first_line(error)}")
        finally:
            self._running.pop(running.key, None)

    async def _listen(self, running: Running) -> None:
        sampling, budget = running.job.sampling, running.prepared.budget
        if not budget:
            self._end(running, FinishReason.LENGTH)
            return
        parameters = sampling_parameters(sampling, budget, self._ends, running.structured)
        prompt: dict[str, Any] = {"prompt_token_ids": running.prepared.tokens}
        if running.job.cache_salt:
            prompt["cache_salt"] = running.job.cache_salt
        if running.pictures:
            prompt["multi_modal_data"] = {"image": running.pictures}
        results = self._llm.generate(
            prompt,
            parameters,
            running.engine_id,
            priority=0,
        )
        async with contextlib.aclosing(results):
            async for result in results:
                running.prompt_was(result.prompt_token_ids or ())
                output = output_of(result, self._vocabulary.piece, running.job.sampling.top_logprobs)
                delta = running.feed(output)
                if delta.token_count or delta.text or delta.finish_reason is not None:
                    self._emit(delta)
                if running.ended:
                    return  # a stop string: closing the generator aborts the request in vLLM
        self._end(running, FinishReason.ERROR, "vLLM ended the request without a reason")

    def _end(self, running: Running, reason: FinishReason, error: str = "") -> None:
        if not running.ended:
            self._emit(running.end(reason, error))

    def abort(self, key: Key) -> bool:
        """Stop a job; its last delta is emitted at once. False: it is not here."""
        running = self._running.pop(key, None)
        if running is None:
            return False
        self._end(running, FinishReason.ABORTED)
        if running.task is not None:
            running.task.cancel()
        return True

    async def score(self, text: str, token_ids: tuple[int, ...]) -> Scored:
        """Log-probabilities of given tokens; raises Refused, EngineFailed."""
        tokens = await asyncio.to_thread(self._prompts.to_score, text, token_ids)
        self._number += 1
        try:
            async with asyncio.timeout(SCORE_DEADLINE_S):
                results = self._llm.generate(
                    {"prompt_token_ids": tokens}, scoring_parameters(), f"score-{self._number}"
                )
                final = [result async for result in results][-1]
        except TimeoutError:
            raise Refused(RefusalCode.BUSY, f"scoring took longer than {SCORE_DEADLINE_S:.0f} s") from None
        except Exception as error:
            raise EngineFailed(f"vLLM: {_first_line(error)}") from error
        return Scored(token_ids=tuple(tokens[1:]), logprobs=scores_of(tokens, final.prompt_logprobs))

    def assign_draft(self, link: DraftLink | None) -> None:
        """Ask this draft from the next step on; None: none. Raises Refused where vLLM takes none."""
        if self._drafts is not None:
            self._drafts.assign(self.loaded, link)
        elif link is not None:
            reason = self.loaded.speculates.removeprefix("off: ") or "its option 'speculate' is not \"tier\""
            raise Refused(RefusalCode.UNSUPPORTED, f"'{self.loaded.model}' takes no drafts: {reason}")

    @property
    def draft_report(self) -> DraftReport | None:
        """How it gets on with its draft; None: it has none."""
        return None if self._drafts is None else self._drafts.report

    # ------------------------------------------------------------ state

    @property
    def figures(self) -> Load:
        """The load now."""
        return self._statistics.figures(self._running.values())

    @property
    def stepped_at(self) -> float:
        """Monotonic seconds of the last step's output; 0: none yet."""
        return self._statistics.stepped_at

    def cache_changes(self) -> tuple[CacheChange, ...]:
        """What entered and left the prefix cache since the last call."""
        stored, evicted = self._mirror.take()
        if not stored and not evicted:
            return ()
        name, quantization = self.loaded.model, self.loaded.quantization
        return (CacheChange(model=name, quantization=quantization, stored=stored, evicted=evicted),)

    async def _watch(self) -> None:
        while not self._llm.errored:  # noqa: ASYNC110 - vLLM offers nothing to wait for
            await asyncio.sleep(WATCH_S)
        why = await asyncio.to_thread(self._last_words)
        self._failed(f"vLLM's core process of {self.loaded.model} died" + (f": {why}" if why else ""))

    async def stop(self, reason: str) -> None:
        """End what runs, stop the core process and free its memory. Idempotent."""
        if self._llm is None:
            return
        tasks = [one.task for one in self._running.values() if one.task is not None]
        for running in list(self._running.values()):
            self._end(running, FinishReason.ABORTED, reason)
            self.abort(running.key)
        if self._watcher is not None:
            self._watcher.cancel()
            tasks.append(self._watcher)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._events is not None:
            await self._events.close()
        if self._drafts is not None:
            await self._drafts.close()
        llm, self._llm = self._llm, None
        if (
            llm.output_handler is not None
        ):  # else it takes the end of the core for its death, and logs what holds the llm
            llm.output_handler.cancel()
            await asyncio.gather(llm.output_handler, return_exceptions=True)
        await asyncio.to_thread(llm.shutdown)
        del llm
        await asyncio.to_thread(_give_memory_back)


def _give_memory_back() -> None:
    """AsyncLLM and its tokenizer stand in cycles, and glibc keeps what they leave."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def loaded_model(launched: Launched, vocabulary: Vocabulary) -> ModelInstance:
    """Facts from the folder, and what vLLM made of it."""
    spec, shape, cache = launched.spec, launched.model.shape, launched.llm.vllm_config.cache_config
    kv_format = "fp8" if launched.options.kv_dtype.startswith("fp8") else "f16"
    told = instance_of(
        shape, model=spec.name, file_format=launched.model.stated.method, file=Path(spec.path).name, kv_format=kv_format
    )
    return replace(
        told,
        quantization=spec.quantization or shape.quantization,
        context_tokens=int(launched.llm.model_config.max_model_len),
        slots=launched.options.slots,
        capabilities=Capabilities(
            can_continue=True,
            can_score=True,
            logprobs=True,
            seed=True,
            can_load=True,
            publishes_cache=bool(launched.events_at),
            vision=sees(launched.llm),
            grammars=tuple(GrammarKind),
            takes_drafts=bool(launched.drafts_at),
        ),
        kv_capacity_tokens=int(cache.num_gpu_blocks or 0) * int(cache.block_size or 1),
        block_tokens=int(cache.block_size or 1),
        tokenizer_fingerprint=vocabulary.fingerprint(),
        tokens_per_byte=tokens_per_byte(vocabulary),
        speculates=launched.speculates,
    )


def _text_bytes(job: Job) -> int:
    """Bytes of what the block hashes were computed on: the text, or each message's fields with their separators."""
    if job.messages:
        return sum(len(f"{m.role}{m.name}{m.text}".encode("utf-8", "replace")) + 3 for m in job.messages)
    return len(job.prompt.encode("utf-8", "replace")) if isinstance(job.prompt, str) else 4 * len(job.prompt)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
