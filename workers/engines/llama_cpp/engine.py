"""The llama.cpp engine: loaded models by name and quantization, each stepped by its own thread."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from workers.engines.base import (
    Accepted,
    Embedded,
    EngineFailed,
    Job,
    LoadedModel,
    LoadError,
    LoadFigures,
    ModelSpec,
    Progress,
    RefusalCode,
    Refused,
    Scored,
    StepResult,
)
from workers.engines.llama_cpp.options import options_of
from workers.engines.llama_cpp.runner import Runner
from workers.engines.load_sum import sum_of_loads

Key = tuple[str, str]


class LlamaCppEngine:
    """Implements ``workers.engines.base.Engine``."""

    kind = "llama.cpp"

    def __init__(self) -> None:
        self._runners: dict[Key, Runner] = {}
        self._loaded: dict[Key, LoadedModel] = {}
        self._jobs: dict[tuple[str, int], Runner] = {}
        self._results: asyncio.Queue[StepResult | EngineFailed] = asyncio.Queue()  # at most one a step and model
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def version(self) -> str:
        """Of the Python binding, which pins llama.cpp."""
        import llama_cpp

        return str(llama_cpp.__version__)

    # -- models ------------------------------------------------------------------------------------------------

    async def load(self, spec: ModelSpec, progress: Progress) -> LoadedModel:
        """Load in the model's own thread; raises LoadError."""
        self._loop = asyncio.get_running_loop()
        options = options_of(spec)
        try:
            import llama_cpp  # noqa: F401
        except (ImportError, OSError) as error:
            raise LoadError(f"llama.cpp is not usable here ({error}); install allsorts[llama]") from error
        runner = Runner(spec, options, self._publish, self._died)
        loaded = await asyncio.wrap_future(runner.start(progress))
        key = (loaded.name, loaded.quantization)
        if key in self._runners:
            await asyncio.to_thread(runner.stop, "loaded twice")
            raise LoadError(f"{spec.path}: '{loaded.name}' is loaded at {loaded.quantization} already")
        self._runners[key], self._loaded[key] = runner, loaded
        return loaded

    async def unload(self, name: str, quantization: str) -> None:
        """Free a model; unknown ones are ignored."""
        runner = self._runners.pop((name, quantization), None)
        self._loaded.pop((name, quantization), None)
        if runner is not None:
            await asyncio.to_thread(runner.stop, f"{name} is being unloaded")

    @property
    def models(self) -> tuple[LoadedModel, ...]:
        """What is loaded now."""
        return tuple(self._loaded.values())

    async def close(self) -> None:
        """Unload everything."""
        for key in tuple(self._runners):
            await self.unload(*key)

    # -- jobs --------------------------------------------------------------------------------------------------

    async def submit(self, job: Job) -> Accepted:
        """Count in a thread, then queue. Raises Refused, EngineFailed."""
        runner = self._runner(job.model, job.quantization)
        key = (job.request_id, job.attempt)
        self._jobs[key] = runner  # before the first delta can arrive
        try:
            sequence = await asyncio.to_thread(runner.submit, job)
        except BaseException:
            self._jobs.pop(key, None)
            runner.abort(*key)  # a cancelled caller will not read it
            raise
        return Accepted(prompt_tokens=sequence.prompt_tokens)

    def abort(self, request_id: str, attempt: int) -> None:
        """Stop a job within one step."""
        runner = self._jobs.get((request_id, attempt))
        if runner is not None:
            runner.abort(request_id, attempt)

    async def score(self, model: str, quantization: str, text: str, token_ids: tuple[int, ...] = ()) -> Scored:
        """Log-probabilities by teacher forcing, in a slot of its own, once one is free."""
        runner = self._runner(model, quantization)
        return await asyncio.wrap_future(await asyncio.to_thread(runner.score, text, token_ids))

    async def embed(self, model: str, quantization: str, text: str) -> Embedded:  # noqa: ARG002 - the interface
        """Refused: a context that generates keeps no embeddings."""
        raise Refused(RefusalCode.UNSUPPORTED, f"'{model}' is loaded to generate; it has no embeddings")

    def _runner(self, model: str, quantization: str) -> Runner:
        runner = self._runners.get((model, quantization))
        if runner is None:
            raise Refused(RefusalCode.MODEL_NOT_LOADED, f"'{model}' at {quantization} is not loaded here")
        return runner

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
            yield replace(result, load=self.load_figures())

    def load_figures(self) -> LoadFigures:
        """Of all models together."""
        return sum_of_loads([runner.figures for runner in self._runners.values()])

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
