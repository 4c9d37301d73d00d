"""The thread of one loaded model: loads it, steps it while there is work, frees it at the end."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from protos.contract.events import CacheChange, DraftReport
from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import RefusalCode
from protos.contract.worker import Load, ModelInstance
from workers.drafting.client import RemoteDrafter
from workers.drafting.link import DraftLink
from workers.engines.base import EngineFailed, ModelSpec, Refused, Scored, StepResult
from workers.engines.grammar.compiler import GrammarCompiler
from workers.engines.llama_cpp.batch.batching import Batching
from workers.engines.llama_cpp.batch.sequence import Preparation, Sequence
from workers.engines.llama_cpp.chat import gguf_template, marks_in
from workers.engines.llama_cpp.drafting.local import local_drafter
from workers.engines.llama_cpp.embedder import Embedder
from workers.engines.llama_cpp.memory import Offer
from workers.engines.llama_cpp.model_file import loaded_with, read_model
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.llama_cpp.native_embedding import NativeEmbedding, Vector
from workers.engines.llama_cpp.options import Options, told_by
from workers.engines.prompts import Prompts, tokens_per_byte
from workers.engines.templates.chat_template import with_chat
from workers.engines.templates.dialogue import dialogue_of
from workers.speculation.draft_use import DraftUse
from workers.speculation.speculator import Counts

log = structlog.get_logger(__name__)

Publish = Callable[[StepResult], None]
Died = Callable[[str], None]
Command = Callable[[Batching], None]
LOOK_AGAIN_S = 2.0
"""Between looks at who else computes on this machine."""


class Runner:
    """One model. ``publish`` and ``died`` are called from its thread; every other method from anywhere."""

    def __init__(
        self, spec: ModelSpec, options: Options, publish: Publish, died: Died, models: Callable[[], int] = lambda: 1
    ) -> None:
        """``models``: how many this process has."""
        self.loaded: ModelInstance  # once it is
        self._spec = spec
        self._options = options
        self._publish = publish
        self._died = died
        self._models = models
        self._offer: Offer | None = None
        self._threads = 0
        self._looked_at = 0.0
        self._wake = threading.Condition()
        self._arriving: list[Sequence] = []
        self._commands: deque[Command] = deque()
        self._scores: deque[tuple[list[int], Future[Scored]]] = deque()
        self._stopping = ""
        self._preparing = 0
        self._preparation: Preparation | None = None
        self._speculated = Counts()
        self._model: NativeModel | None = None
        self._vocab_size = 0
        self._thread: threading.Thread | None = None
        self.failed = ""
        self._figures = Load()
        self._embedder: Embedder | None = None
        self._drafter: RemoteDrafter | None = None
        self._draft_use: DraftUse | None = None
        self._local: RemoteDrafter | None = None  # where there is a draft model in this process

    @property
    def speculated(self) -> Counts:
        """Proposals verified and accepted since the model was loaded."""
        return self._speculated

    @property
    def figures(self) -> Load:
        """The load now, with jobs that were accepted and not yet looked at."""
        embedding, tokens = (0, 0) if self._embedder is None else self._embedder.pending
        with self._wake:
            figures, arriving = self._figures, self._arriving
            if not (arriving or embedding):
                return figures
            tokens += sum(len(sequence.tokens) for sequence in arriving)
            return replace(
                figures,
                waiting=figures.waiting + len(arriving) + embedding,
                prefill_tokens_pending=figures.prefill_tokens_pending + tokens,
                expected_remaining_tokens=figures.expected_remaining_tokens
                + sum(sequence.expected_remaining for sequence in arriving),
            )

    # -- life ------------------------------------------------------------------------------------------------

    def start(self, progress: Callable[[float, str], None]) -> "Future[None]":
        """Begin to load; the future is done once ``loaded`` has the model's facts, or has LoadError."""
        loaded: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(loaded, progress), name=f"llama.cpp {self._spec.name}", daemon=True
        )
        self._thread.start()
        return loaded

    def stop(self, reason: str) -> None:
        """End what runs, free the model, wait for the thread. Blocks for at most a step."""
        with self._wake:
            self._stopping = reason
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    def by_hand(self) -> tuple[Batching, Preparation]:
        """Load in the caller's thread instead: who measures steps takes them one by one, and closes the model after."""
        batching, self.loaded = self._load(lambda _fraction, _message: None)
        assert self._preparation is not None
        return batching, self._preparation

    def _run(self, loaded: "Future[None]", progress: Callable[[float, str], None]) -> None:
        try:
            batching, self.loaded = self._load(progress)
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever asked for the model
            loaded.set_exception(error)
            return
        loaded.set_result(None)
        try:
            self._loop(batching)
        except Exception as error:  # noqa: BLE001 - the thread's last words
            self.failed = f"{type(error).__name__}: {error}"
            self._died(self.failed)
        finally:
            self._free(batching)

    def _load(self, progress: Callable[[float, str], None]) -> tuple[Batching, ModelInstance]:
        path = Path(self._spec.path)
        shape = read_model(path)
        offer = Offer.here(self._options)
        self._options = offer.options(self._options, self._spec, shape)
        offer.check(path, shape, self._options)
        self._offer = offer
        model = NativeModel(path, self._options, lambda fraction: progress(0.9 * fraction, f"reading {path.name}"))
        self._options = offer.tried(self._options, told_by(self._spec), self._models(), model.time_threads)
        model.use_threads(self._options.threads)
        log.info("model.options", model=self._spec.name, options=str(self._options))
        try:
            template = gguf_template(model, self._spec.name, self._options.chat_template)
            facts = replace(
                with_chat(loaded_with(shape, self._spec, self._options), template),
                tokenizer_fingerprint=model.tokenizer_fingerprint(),
                tokens_per_byte=tokens_per_byte(model),
            )
            takes_drafts = self._options.speculate and model.can_roll_back
            facts = replace(
                facts,
                capabilities=replace(facts.capabilities, takes_drafts=takes_drafts),
                speculates="own text" if takes_drafts else "",
            )
        except BaseException:
            model.close()
            raise
        self._model, self._vocab_size = model, model.vocab_size
        self._embedder = Embedder(partial(NativeEmbedding, model, self._options), self._options.context_tokens)
        marks = marks_in(model, template)
        self._preparation = Preparation(
            Prompts(model, template, self._options.context_tokens, facts.tokenizer_fingerprint, marks),
            GrammarCompiler(model.token_table),
            model,
            dialogue_of(template, marks),
        )
        progress(1.0, f"loaded: {self._options}")
        batching = Batching(model, self._options, facts.model, facts.quantization, marks)
        if self._options.draft_model:
            try:
                self._local = local_drafter(Path(self._options.draft_model), model, self._options)
            except BaseException:
                batching.close()
                raise
            batching.use_drafter(self._local, self._options.draft_length)
        self._speculated = batching.speculated
        return batching, facts

    def _loop(self, batching: Batching) -> None:
        while True:
            with self._wake:
                while not (self._stopping or self._arriving or self._commands or self._scores or batching.busy):
                    self._wake.wait()
                self._hand_over(batching)
            if self._stopping:
                return
            self._score(batching)
            if batching.busy:
                self._share_cores(batching.model)
                result = batching.step()
                self._figures = result.load
                self._publish(result)

    def _share_cores(self, model: NativeModel) -> None:
        """As many threads as the machine's other workers leave; looked up now and then while there is work."""
        if self._offer is None or not self._options.share_cores or time.monotonic() - self._looked_at < LOOK_AGAIN_S:
            return
        self._looked_at = time.monotonic()
        threads = self._offer.threads(self._options, self._models())
        if threads != self._threads:
            model.use_threads(threads)
            log.info("model.threads", model=self._spec.name, threads=threads)
            self._threads = threads

    def _hand_over(self, batching: Batching) -> None:
        """New jobs and commands into the batching, with the lock held: the load never shows a job nowhere."""
        for sequence in self._arriving:
            batching.add(sequence)
        self._arriving.clear()
        while self._commands:
            self._commands.popleft()(batching)
        self._figures = batching.figures()

    def _free(self, batching: Batching) -> None:
        """Last results, then the memory; nobody may still be tokenizing."""
        reason = self._stopping or self.failed
        with self._wake:
            self._stopping = reason
            self._wake.wait_for(lambda: self._preparing == 0)
        if self._embedder is not None:
            self._embedder.stop(reason)
        for drafter in (self._drafter, self._local):
            if drafter is not None:
                drafter.close()
        with self._wake:
            if not self.failed:
                self._hand_over(batching)
        for _, future in self._scores:
            future.set_exception(EngineFailed(reason))
        if not self.failed:
            batching.abort_all(reason)
            batching.close()
            self._publish(replace(batching.last_words(), cache=(self._cleared(batching),)))
        else:
            batching.close()
        self._figures = replace(batching.figures(), running=0, waiting=0)

    @staticmethod
    def _cleared(batching: Batching) -> CacheChange:
        return CacheChange(model=batching.name, quantization=batching.quantization, cleared=True)

    # -- jobs ------------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> Sequence:
        """Count, prepare and queue; blocks while tokenizing. Raises Refused, EngineFailed."""
        with self._using() as preparation:
            waiting = self.figures.waiting
            if waiting >= self._options.queue_limit:
                raise Refused(RefusalCode.BUSY, f"{waiting} requests wait here already; the limit is reached")
            sequence = preparation.prepare(job)
            with self._wake:
                self._arriving.append(sequence)
                self._wake.notify_all()
            return sequence

    def abort(self, request_id: str, attempt: int) -> None:
        """End a job within a step."""
        self._send(lambda batching: batching.abort((request_id, attempt)))

    def assign_draft(self, link: DraftLink | None) -> None:
        """Ask this draft from the next step on; None: none. Raises Refused where tokens cannot be taken back."""
        if self._drafter is not None and self._drafter.link == link:
            return
        if link is not None and not (self._options.speculate and self._model is not None and self._model.can_roll_back):
            reason = "speculation is off here, or this model's memory cannot take tokens back"
            raise Refused(RefusalCode.UNSUPPORTED, f"'{self._spec.name}' takes no drafts: {reason}")
        before, self._draft_use = self._drafter, None
        self._drafter = drafter = RemoteDrafter(link, self._vocab_size) if link is not None else None
        fixed = (link.draft_length if link is not None else 0) or self._options.draft_length

        def use(batching: Batching) -> None:
            self._draft_use = batching.use_drafter(drafter or self._local, fixed)

        self._send(use)
        if before is not None:
            threading.Thread(target=before.close, name="draft closes", daemon=True).start()

    @property
    def draft_report(self) -> DraftReport | None:
        """How it gets on with its draft; None: it has none."""
        drafter, use = self._drafter, self._draft_use
        return None if drafter is None else drafter.report(self.loaded, use)

    def score(self, text: str, token_ids: tuple[int, ...]) -> "Future[Scored]":
        """Score once a slot is free. Raises Refused, EngineFailed."""
        with self._using() as preparation:
            tokens = preparation.to_score(text, token_ids)
            future: Future[Scored] = Future()
            with self._wake:
                self._scores.append((tokens, future))
                self._wake.notify_all()
            return future

    def count(self, asked: EmbeddingInputs) -> list[list[int]]:
        """The token ids of what is to be embedded; blocks while tokenizing. Raises Refused, EngineFailed."""
        with self._using() as preparation:
            return preparation.to_embed(asked)

    def embed(self, texts: list[list[int]]) -> "Future[list[Vector]]":
        """A vector for each, beside what is generated. Raises Refused, EngineFailed."""
        with self._using():
            assert self._embedder is not None
            return self._embedder.embed(texts)

    def _score(self, batching: Batching) -> None:
        if not self._scores:
            return
        tokens, future = self._scores[0]
        scored = batching.score(tokens)
        if scored is not None:
            self._scores.popleft()
            if future.set_running_or_notify_cancel():
                future.set_result(scored)

    def _send(self, command: Command) -> None:
        with self._wake:
            self._commands.append(command)
            self._wake.notify_all()

    @contextlib.contextmanager
    def _using(self) -> Iterator[Preparation]:
        """Keep the model's vocabulary alive for the length of the block."""
        with self._wake:
            if self.failed:
                raise EngineFailed(self.failed)
            if self._stopping or self._preparation is None:
                raise Refused(RefusalCode.MODEL_NOT_LOADED, f"'{self._spec.name}' is being unloaded")
            self._preparing += 1
        try:
            yield self._preparation
        finally:
            with self._wake:
                self._preparing -= 1
                self._wake.notify_all()
