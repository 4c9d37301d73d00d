"""The thread of one draft model: tokens for the sequences of many targets, all of them in one decode."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.worker import Capabilities, Load, ModelInstance, Speed
from workers.drafting.room import Answer
from workers.engines.base import EngineFailed, ModelSpec, StepResult
from workers.engines.llama_cpp.memory import Offer
from workers.engines.llama_cpp.model_file import loaded_with, read_model
from workers.engines.llama_cpp.native import NativeModel
from workers.engines.llama_cpp.options import Options
from workers.speculation.draft_table import DraftTable

MAX_ARRIVING = 4096
"""Messages of targets that wait to be looked at; what is too much is dropped: their answers would be late anyway."""

FIGURES_EVERY_S = 0.5

Publish = Callable[[StepResult | EngineFailed], None]


class DraftModel:
    """A model and the table of its sequences, stepped by whoever holds it."""

    def __init__(self, model: NativeModel, options: Options) -> None:
        self.table = DraftTable(options.slots, options.context_tokens, model.vocab_size)
        self.steps = 0
        self._model = model
        self._budget = options.prefill_tokens
        self._ends = frozenset(model.end_tokens)

    def step(self, now: float) -> bool:
        """One decode; False: there was nothing to do."""
        began = time.perf_counter()
        self.cut()
        rows = self.table.plan(self._budget, now)
        if not rows:
            return False
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        wanted: list[bool] = []
        saying: list[int] = []
        for row in rows:
            count = len(row.tokens)
            tokens += row.tokens
            positions += range(row.start, row.start + count)
            slots += [row.one.slot] * count
            wanted += [False] * (count - 1) + [row.says]
            if row.says:
                saying.append(len(tokens) - 1)
        self._model.decode(tokens, positions, slots, wanted)
        said = [int(self._model.logits(at).argmax()) for at in saying]
        self.table.said(rows, said, time.perf_counter() - began, self._ends)
        self.steps += 1
        return True

    def cut(self) -> None:
        """Take back what the table took back."""
        for slot, length in self.table.cut:
            self._model.trim(slot, length)
        self.table.cut.clear()


class DraftRunner:
    """Implements ``workers.drafting.room.DraftRoom``. ``publish`` is called from its thread."""

    def __init__(self, spec: ModelSpec, options: Options, publish: Publish) -> None:
        self.loaded: ModelInstance  # once it is
        self.failed = ""
        self._spec = spec
        self._options = options
        self._publish = publish
        self._wake = threading.Condition()
        self._arriving: deque[tuple[str, Sequence[DraftContext] | None]] = deque()
        self._answers: dict[str, Answer] = {}
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.figures = Load()

    # ------------------------------------------------------------ life

    def start(self, progress: Callable[[float, str], None]) -> "Future[None]":
        """Begin to load; the future is done once ``loaded`` has the model's facts, or has LoadError."""
        loaded: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(loaded, progress), name=f"draft {self._spec.name}", daemon=True
        )
        self._thread.start()
        return loaded

    def stop(self) -> None:
        """Free the model, wait for the thread. Blocks for at most a step."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self, loaded: "Future[None]", progress: Callable[[float, str], None]) -> None:
        try:
            model = self._load(progress)
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever asked for the model
            loaded.set_exception(error)
            return
        loaded.set_result(None)
        try:
            self._loop(DraftModel(model, self._options))
        except Exception as error:  # noqa: BLE001 - the thread's last words
            self.failed = f"{type(error).__name__}: {error}"
            self._publish(EngineFailed(f"llama.cpp: {self.failed}"))
        finally:
            model.close()

    def _load(self, progress: Callable[[float, str], None]) -> NativeModel:
        path = Path(self._spec.path)
        shape = read_model(path)
        offer = Offer.here(self._options)
        self._options = offer.options(self._options, self._spec, shape)
        offer.check(path, shape, self._options)
        model = NativeModel(path, self._options, lambda fraction: progress(0.9 * fraction, f"reading {path.name}"))
        try:
            step_s = min(model.time_rows(1) for _ in range(4))
            read_s = model.time_rows(min(self._options.prefill_tokens, self._options.context_tokens))
            self.loaded = replace(
                loaded_with(shape, self._spec, self._options),
                tokenizer_fingerprint=model.tokenizer_fingerprint(),
                capabilities=Capabilities(can_load=True, chat=False, exact_prompt_count=False),
                speed=Speed(
                    base_s=step_s,
                    per_sequence_s=0.0,
                    per_context_token_s=0.0,
                    prefill_tokens_per_s=self._options.prefill_tokens / max(read_s, 1e-6),
                    measured=True,
                ),
            )
        except BaseException:
            model.close()
            raise
        progress(1.0, f"loaded to draft: {self._options}")
        return model

    # ------------------------------------------------------------ what targets say (DraftRoom)

    def enter(self, target: str, answer: Answer) -> None:
        """A target's call begins."""
        self._answers[target] = answer

    def tell(self, target: str, contexts: Sequence[DraftContext]) -> None:
        """Contexts of one step of the target."""
        with self._wake:
            if len(self._arriving) < MAX_ARRIVING:
                self._arriving.append((target, contexts))
                self._wake.notify_all()

    def leave(self, target: str) -> None:
        """Its call is over."""
        with self._wake:
            self._arriving.append((target, None))
            self._wake.notify_all()

    def _loop(self, model: DraftModel) -> None:
        told_at = 0.0
        while True:
            with self._wake:
                while not (self._stopping or self._arriving or model.table.busy):
                    self._wake.wait()
                if self._stopping:
                    return
                arrived = list(self._arriving)
                self._arriving.clear()
            now = time.monotonic()
            for target, contexts in arrived:
                self._take(model.table, target, contexts, now)
            self._send(model.table)
            if model.step(time.monotonic()):
                self._send(model.table)
            if now - told_at >= FIGURES_EVERY_S:
                told_at = now
                self._tell_figures(model)

    def _take(self, table: DraftTable, target: str, contexts: Sequence[DraftContext] | None, now: float) -> None:
        if contexts is None:
            table.gone(target)
            self._answers.pop(target, None)
            return
        refused = [
            DraftProposal(request_id=one.request_id, epoch=one.epoch, position=one.position, refusal=why)
            for one in contexts
            if (why := table.tell(target, one, now))
        ]
        if refused and (answer := self._answers.get(target)) is not None:
            answer(refused)

    def _send(self, table: DraftTable) -> None:
        by_target: dict[str, list[DraftProposal]] = {}
        for target, proposal in table.proposals():
            by_target.setdefault(target, []).append(proposal)
        for target, proposals in by_target.items():
            if (answer := self._answers.get(target)) is not None:
                answer(proposals)

    def _tell_figures(self, model: DraftModel) -> None:
        self.figures = Load(running=len(model.table), step_sequence=model.steps)
        self._publish(StepResult(deltas=(), load=self.figures))
