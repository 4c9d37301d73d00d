"""llama.cpp as a draft worker's engine: models that propose tokens to targets elsewhere and answer no requests."""

import asyncio
from collections.abc import AsyncIterator

from protos.contract.request import Job
from protos.contract.stream import Accepted, RefusalCode
from protos.contract.worker import Load
from workers.drafting.room import DraftRoom, NoRoom
from workers.engines.base import EngineFailed, LoadError, ModelSpec, Progress, Refused, StepResult
from workers.engines.llama_cpp.drafting.runner import DraftRunner
from workers.engines.llama_cpp.options import options_of
from workers.engines.llama_cpp.spec import LlamaCpp
from workers.engines.load_sum import sum_of_loads
from workers.engines.model_table import ModelTable

MAX_RESULTS = 64


class LlamaCppDrafts(ModelTable[DraftRunner]):
    """Implements ``workers.engines.base.Engine``, and ``workers.drafting.room.DraftRooms``."""

    kind = LlamaCpp.name

    def __init__(self) -> None:
        super().__init__()
        self._results: asyncio.Queue[StepResult | EngineFailed] = asyncio.Queue(MAX_RESULTS)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def version(self) -> str:
        """Of the Python binding, which pins llama.cpp."""
        import llama_cpp

        return str(llama_cpp.__version__)

    async def start_model(self, spec: ModelSpec, progress: Progress) -> DraftRunner:
        """Load in the model's own thread; raises LoadError."""
        self._loop = asyncio.get_running_loop()
        try:
            import llama_cpp  # noqa: F401
        except (ImportError, OSError) as error:
            raise LoadError(
                f"llama.cpp is not usable here ({error}); try: allsorts engine install llama.cpp --anew"
            ) from error
        runner = DraftRunner(spec, options_of(spec), self._publish)
        await asyncio.wrap_future(runner.start(progress))
        return runner

    async def stop_model(self, held: DraftRunner, reason: str) -> None:
        """Free the model and end its thread."""
        del reason
        await asyncio.to_thread(held.stop)

    def room_for(self, model: str, quantization: str, tokenizer_fingerprint: str) -> DraftRoom:
        """The model to ask; empty names: the only one. Raises NoRoom."""
        held = [
            one for one in self.held()
            if model in ("", one.loaded.model) and quantization in ("", one.loaded.quantization)
        ]  # fmt: skip
        if not held:
            raise NoRoom(f"'{model}' at {quantization or 'any'} is not loaded here")
        if held[0].failed:
            raise NoRoom(f"the draft model died: {held[0].failed}")
        if not tokenizer_fingerprint or held[0].loaded.tokenizer_fingerprint != tokenizer_fingerprint:
            raise NoRoom(f"the tokenizer of '{held[0].loaded.model}' is another one than the target's")
        return held[0]

    async def submit(self, job: Job) -> Accepted:
        """Refused."""
        raise Refused(
            RefusalCode.UNSUPPORTED, f"this worker proposes tokens to others; it does not answer '{job.model}'"
        )

    def abort(self, request_id: str, attempt: int) -> None:
        """There is nothing to abort."""

    async def steps(self) -> AsyncIterator[StepResult]:
        """Load figures now and then."""
        self._loop = asyncio.get_running_loop()
        while True:
            result = await self._results.get()
            if isinstance(result, EngineFailed):
                raise result
            yield result

    def load_figures(self) -> Load:
        """Sequences that are drafted for, of all models together."""
        return sum_of_loads([one.figures for one in self.held()])

    def _publish(self, result: StepResult | EngineFailed) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._put, result)

    def _put(self, result: StepResult | EngineFailed) -> None:
        if isinstance(result, EngineFailed) and self._results.full():
            self._results.get_nowait()
        if not self._results.full():
            self._results.put_nowait(result)
