"""The llama.cpp engine: loaded models by name and quantization, each stepped by its own thread."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from protos.contract.events import DraftReport
from protos.contract.request import EmbeddingInputs, Job
from protos.contract.stream import Accepted
from protos.contract.worker import Load
from workers.drafting.link import DraftLink
from workers.engines.base import Counted, Embedded, EngineFailed, LoadError, ModelSpec, Progress, Scored, StepResult
from workers.engines.llama_cpp.embedder import shortened
from workers.engines.llama_cpp.options import options_of
from workers.engines.llama_cpp.runner import Runner
from workers.engines.llama_cpp.spec import LlamaCpp
from workers.engines.load_sum import sum_of_loads
from workers.engines.model_table import ModelTable


class LlamaCppEngine(ModelTable[Runner]):
    """Implements ``workers.engines.base.Engine``."""

    kind = LlamaCpp.name

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[tuple[str, int], Runner] = {}
        self._results: asyncio.Queue[StepResult | EngineFailed] = asyncio.Queue()  # at most one a step and model
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def version(self) -> str:
        """Of the Python binding, which pins llama.cpp."""
        import llama_cpp

        return str(llama_cpp.__version__)

    # -- models ------------------------------------------------------------------------------------------------

    async def start_model(self, spec: ModelSpec, progress: Progress) -> Runner:
        """Load in the model's own thread; raises LoadError."""
        self._loop = asyncio.get_running_loop()
        options = options_of(spec)
        try:
            import llama_cpp  # noqa: F401
        except (ImportError, OSError) as error:
            hint = "allsorts engine install llama.cpp --anew"
            raise LoadError(f"llama.cpp is not usable here ({error}); try: {hint}") from error
        runner = Runner(spec, options, self._publish, self._died, lambda: len(self.models))
        await asyncio.wrap_future(runner.start(progress))
        return runner

    async def stop_model(self, held: Runner, reason: str) -> None:
        """Free the model and end its thread."""
        await asyncio.to_thread(held.stop, reason)

    # -- jobs --------------------------------------------------------------------------------------------------

    async def submit(self, job: Job) -> Accepted:
        """Count in a thread, then queue. Raises Refused, EngineFailed."""
        runner = self.find(job.model, job.quantization)
        key = (job.request_id, job.attempt)
        self._jobs[key] = runner  # before the first delta can arrive
        try:
            sequence = await asyncio.to_thread(runner.submit, job)
        except BaseException:
            self._jobs.pop(key, None)
            runner.abort(*key)  # a cancelled caller will not read it
            raise
        return Accepted(request_id=job.request_id, attempt=job.attempt, prompt_tokens=sequence.prompt_tokens)

    def abort(self, request_id: str, attempt: int) -> None:
        """Stop a job within one step."""
        runner = self._jobs.get((request_id, attempt))
        if runner is not None:
            runner.abort(request_id, attempt)

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        """Log-probabilities by teacher forcing, in a slot of its own, once one is free."""
        runner = self.find(model, quantization)
        return await asyncio.wrap_future(await asyncio.to_thread(runner.score, text, token_ids))

    async def embed(self, model: str, quantization: str, asked: EmbeddingInputs, counted: Counted) -> Embedded:
        """Vectors, computed beside what is generated."""
        runner = self.find(model, quantization)
        texts = await asyncio.to_thread(runner.count, asked)
        prompt_tokens = sum(len(text) for text in texts)
        counted(prompt_tokens)
        vectors = await asyncio.wrap_future(runner.embed(texts))
        return Embedded(vectors=shortened(vectors, asked.dimensions), prompt_tokens=prompt_tokens)

    # -- drafts ------------------------------------------------------------------------------------------------

    def assign_draft(self, model: str, quantization: str, link: DraftLink | None) -> None:
        """Pull proposals from a draft worker from now on; None: no more. Raises Refused."""
        self.find(model, quantization).assign_draft(link)

    def draft_reports(self) -> tuple[DraftReport, ...]:
        """Of each model that has a draft."""
        return tuple(report for runner in self.held() if (report := runner.draft_report) is not None)

    # -- results -----------------------------------------------------------------------------------------------

    async def steps(self) -> AsyncIterator[StepResult]:
        """Results of all models in the order of their steps."""
        self._loop = asyncio.get_running_loop()
        while True:
            result = await self._results.get()
            if isinstance(result, EngineFailed):
                raise result
            for delta in result.deltas:
                if delta.finish_reason is not None:
                    self._jobs.pop((delta.request_id, delta.attempt), None)
            yield replace(result, load=self._load_after(result.load))

    def load_figures(self) -> Load:
        """Of all models together."""
        return sum_of_loads([runner.figures for runner in self.held()])

    def _load_after(self, step: Load) -> Load:
        """The load now; of one model alone the step's own facts, though later steps may have passed already."""
        figures = self.load_figures()
        if len(self._held) != 1:
            return figures
        return replace(
            figures,
            context_tokens=step.context_tokens,
            step_sequence=step.step_sequence,
            last_step_s=step.last_step_s,
            last_step_batch=step.last_step_batch,
            last_step_prefill_tokens=step.last_step_prefill_tokens,
            last_step_prefills=step.last_step_prefills,
        )

    def _publish(self, result: StepResult) -> None:
        self._call(self._results.put_nowait, result)

    def _died(self, reason: str) -> None:
        self._call(self._results.put_nowait, EngineFailed(f"llama.cpp: {reason}"))

    def _call(self, function: Any, argument: Any) -> None:
        """From a model's thread into the event loop; a loop that has closed wants nothing any more."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(function, argument)
            except RuntimeError:
                return
