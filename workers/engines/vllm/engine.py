"""The vLLM engine: loaded models by name and quantization, each with a core process of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from protos.contract.events import DraftReport
from protos.contract.request import Job
from protos.contract.stream import Accepted, Delta
from protos.contract.worker import Load
from workers.drafting.link import DraftLink
from workers.engines.base import EngineFailed, ModelSpec, Progress, Scored, StepResult
from workers.engines.load_sum import sum_of_loads
from workers.engines.model_table import ModelTable
from workers.engines.vllm.core.launch import Launcher, load_error
from workers.engines.vllm.model import VllmModel
from workers.engines.vllm.spec import Vllm
from workers.engines.vllm.vocabulary import Vocabulary


class VllmEngine(ModelTable[VllmModel]):
    """Implements ``workers.engines.base.Engine``."""

    kind = Vllm.name

    def __init__(self) -> None:
        super().__init__()
        self._launcher = Launcher()
        self._deltas: list[Delta] = []
        self._failure = ""
        self._wake = asyncio.Event()
        self._loading = asyncio.Lock()

    @property
    def version(self) -> str:
        """VLLM's own."""
        import vllm

        return str(vllm.__version__)

    # ------------------------------------------------------------ models

    async def start_model(self, spec: ModelSpec, progress: Progress) -> VllmModel:
        """Start a core process with the model; raises LoadError. One after the other: they share an environment."""
        async with self._loading:
            launched = await self._launcher.launch(spec, progress, self._wake.set)
            try:
                vocabulary = await asyncio.to_thread(
                    Vocabulary, Path(spec.path), trust_remote_code=launched.options.trust_remote_code
                )
                model = VllmModel(launched, vocabulary, emit=self._emit, failed=self._died, changed=self._wake.set)
            except BaseException:
                await asyncio.to_thread(launched.llm.shutdown)
                raise
            progress(0.9, "warming up")
            try:
                await model.warm_up()
            except BaseException as error:
                await model.stop("the warm-up failed")
                if isinstance(error, Exception):
                    raise load_error(launched, error) from error
                raise
            progress(1.0, "ready")
            return model

    async def stop_model(self, held: VllmModel, reason: str) -> None:
        """Stop the model's process."""
        await held.stop(reason)

    async def close(self) -> None:
        """Unload everything; remove the cores' folder."""
        await super().close()
        self._launcher.close()

    # ------------------------------------------------------------ jobs

    async def submit(self, job: Job) -> Accepted:
        """Count in a thread, then hand over. Raises Refused."""
        return await self.find(job.model, job.quantization).submit(job)

    def abort(self, request_id: str, attempt: int) -> None:
        """Stop a job; vLLM frees its blocks with its next step."""
        for model in self.held():
            if model.abort((request_id, attempt)):
                return

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        """Log-probabilities by one prefill."""
        return await self.find(model, quantization).score(text, token_ids)

    def assign_draft(self, model: str, quantization: str, link: DraftLink | None) -> None:
        """Pull proposals from a draft worker from now on; None: no more. Raises Refused."""
        self.find(model, quantization).assign_draft(link)

    def draft_reports(self) -> tuple[DraftReport, ...]:
        """Of each model that has a draft."""
        return tuple(report for one in self.held() if (report := one.draft_report) is not None)

    # ------------------------------------------------------------ results

    def _emit(self, delta: Delta) -> None:
        self._deltas.append(delta)
        self._wake.set()

    def _died(self, reason: str) -> None:
        self._failure = reason
        self._wake.set()

    async def steps(self) -> AsyncIterator[StepResult]:
        """What came since the last one; the tokens of one of vLLM's steps arrive in one turn of the loop."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(0)
            self._wake.clear()
            deltas, self._deltas = self._deltas, []
            cache = tuple(change for one in self.held() for change in one.cache_changes())
            at = max((one.stepped_at for one in self.held()), default=0.0)
            yield StepResult(deltas=tuple(deltas), load=self.load_figures(), cache=cache, at=at)
            if self._failure:
                raise EngineFailed(self._failure)

    def load_figures(self) -> Load:
        """Of all models together."""
        return sum_of_loads([one.figures for one in self.held()])
