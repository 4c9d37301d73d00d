"""What a router asks beside the stream of jobs and takes its time: scores, loads and unloads."""

import asyncio
import contextlib
from collections.abc import Mapping

import structlog

from protos.contract.commands import FetchModel, LoadModel, RemoveModel, Score, SendFile, UnloadModel
from protos.contract.events import FetchProgress, ScoreResult, WorkerEvent
from protos.contract.worker import InstanceState, ModelInstance
from workers.engines.base import EngineError, ModelSpec
from workers.errors import WorkerError
from workers.files.model_files import ModelFiles
from workers.serving.engine_host import EngineHost
from workers.serving.job_table import JobTable
from workers.serving.local_files import LocalFiles
from workers.serving.model_manager import ModelManager
from workers.serving.tasks import TaskSet
from workers.session.session import Session

log = structlog.get_logger(__name__)

ControlCommand = Score | LoadModel | UnloadModel | FetchModel | RemoveModel | SendFile

MAX_CONTROL_COMMANDS = 64
"""So many may be under way at once; beyond it the answer is an error where one is awaited."""

UNDER_WAY = (
    InstanceState.FETCHING,
    InstanceState.LOADING,
    InstanceState.BENCHMARKING,
    InstanceState.READY,
    InstanceState.UNLOADING,
)

TOO_MANY = "too many requests of this kind run"


class ControlCommands:
    """Carries them out, each in a task of its own. ``load_options``: of models that a router loads; ``files``: what
    lies here that it may have loaded, None: it may name any path; ``travelling``: files that come and go.
    """

    def __init__(
        self,
        *,
        engine: EngineHost,
        models: ModelManager,
        jobs: JobTable,
        files: LocalFiles | None = None,
        travelling: ModelFiles | None = None,
        load_options: Mapping[str, str | int | float | bool],
        max_at_once: int = MAX_CONTROL_COMMANDS,
    ) -> None:
        self._engine = engine
        self._models = models
        self._jobs = jobs
        self._files = files
        self._travelling = travelling
        self._load_options = load_options
        self._max_at_once = max_at_once
        self._tasks = TaskSet()

    def start(self, session: Session, command: ControlCommand) -> None:
        """Begin with one; what it asks for is answered on ``session``."""
        if len(self._tasks) < self._max_at_once:
            self._tasks.spawn(self._do(session, command), type(command).__name__)
        elif (answer := _turned_away(command)) is not None:
            session.put_event(answer)

    async def close(self) -> None:
        """Stop what is under way."""
        await self._tasks.close()

    async def _do(self, session: Session, command: ControlCommand) -> None:
        match command:
            case Score():
                session.put_event(await self._score(command))
            case LoadModel():
                await self._load(command)
            case UnloadModel():
                await self._unload(command)
            case FetchModel() if self._travelling is not None:
                with contextlib.suppress(WorkerError):  # told already
                    await self._travelling.fetch(command)
            case RemoveModel() if self._travelling is not None:
                await self._travelling.remove(command)
            case SendFile() if self._travelling is not None:
                await self._travelling.send(session, command)
            case _:
                log.debug("command.not_for_this_worker", command=type(command).__name__)

    async def _load(self, command: LoadModel) -> None:
        """Every router replica may order the same: what is loaded, or on its way, is not loaded again."""
        key = (command.model, command.quantization)
        if any(one.key == key and one.state in UNDER_WAY for one in self._models.reports):
            return
        path = await self._path(command)
        if path is None:
            return
        await self._models.load(
            ModelSpec(
                name=command.model,
                path=path,
                quantization=command.quantization,
                context_tokens=command.context_tokens,
                slots=command.slots,
                options=dict(self._load_options),
                order=command.order,
                urgent=command.urgent,
            )
        )
        if self._travelling is not None:
            await self._travelling.look()  # by which it is known by its content

    async def _path(self, command: LoadModel) -> str | None:
        """Where the model lies, fetched first where it is not here; None: it is not to be loaded (any more)."""
        here = command.path if self._files is None else self._files.path_of(command.path)
        if self._travelling is None or (command.content is None and not command.sources):
            return here
        pending = ModelInstance(
            model=command.model,
            quantization=command.quantization,
            state=InstanceState.FETCHING,
            ordered=command.order,
            content=command.content.sha256 if command.content is not None else "",
        )

        def tell(progress: FetchProgress) -> None:
            share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 0.0
            self._models.show(pending, share, f"fetching, from {progress.source}")

        self._models.show(pending, 0.0, "fetching")
        try:
            path = await self._travelling.fetch(command, tell)
        except WorkerError as error:
            self._models.fetch_failed(pending, str(error))
            return None
        if self._files is not None:
            await asyncio.to_thread(self._files.look)
        return str(path) if self._models.forget(pending) else None

    async def _unload(self, command: UnloadModel) -> None:
        """It takes nothing new from now on; what runs may finish in time, and goes back else."""
        model, quantization = command.model, command.quantization
        if self._jobs.idle_s(model, quantization) < command.idle_s:
            log.info("model.in_use", model=model, quantization=quantization, asked_idle_s=command.idle_s)
            return
        if not self._models.retire(model, quantization):
            return
        if not await self._jobs.drained_of(model, quantization, command.deadline_s):
            self._jobs.return_all(f"{model} is being unloaded", of=(model, quantization))
        await self._models.unload(model, quantization)

    async def _score(self, command: Score) -> ScoreResult:
        engine = self._engine.engine
        try:
            scored = await engine.score(command.model, command.quantization, command.text, command.token_ids)
        except EngineError as error:
            return ScoreResult(request_id=command.request_id, error=str(error))
        return ScoreResult(request_id=command.request_id, logprobs=scored.logprobs, token_ids=scored.token_ids)


def _turned_away(command: ControlCommand) -> WorkerEvent | None:
    """The answer to one too many; None where nobody waits for one."""
    match command:
        case Score():
            return ScoreResult(request_id=command.request_id, error=TOO_MANY)
        case _:
            return None
