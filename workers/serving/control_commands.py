"""What a router asks beside the stream of jobs and takes its time: scores, embeddings, loads and unloads."""

from collections.abc import Mapping

from protos.contract.commands import Embed, LoadModel, Score, UnloadModel
from protos.contract.events import EmbedResult, ScoreResult
from workers.engines.base import Engine, EngineError, ModelSpec, Refused
from workers.engines.step_reader import StepReader
from workers.serving.model_manager import ModelShelf
from workers.session.session import Session

SideCommand = Score | Embed | LoadModel | UnloadModel

MAX_SIDE_TASKS = 64
"""So many may be under way at once."""

TOO_MANY = "too many requests of this kind run"


class SideWork:
    """Does one command at a time for whoever spawns it. ``load_options``: of models that a router loads."""

    def __init__(self, *, shelf: ModelShelf, load_options: Mapping[str, str | int | float | bool]) -> None:
        self._shelf = shelf
        self._load_options = load_options

    async def do(self, engine: Engine, hub: StepReader, session: Session, command: SideCommand) -> None:
        """Carry it out; what it asks for is answered on ``session``."""
        match command:
            case Score():
                session.put_event(await _score(engine, command))
            case Embed():
                session.put_event(await _embed(engine, command))
            case LoadModel():
                spec = ModelSpec(
                    name=command.model,
                    path=command.path,
                    quantization=command.quantization,
                    context_tokens=command.context_tokens,
                    slots=command.slots,
                    options=dict(self._load_options),
                )
                await self._shelf.load(engine, hub, spec)
            case UnloadModel():
                await self._shelf.unload(engine, command.model, command.quantization)


def turned_away(command: SideCommand) -> ScoreResult | EmbedResult | None:
    """The answer to one too many; None where nobody waits for one."""
    match command:
        case Score():
            return ScoreResult(request_id=command.request_id, error=TOO_MANY)
        case Embed():
            return EmbedResult(request_id=command.request_id, error=TOO_MANY)
        case _:
            return None


async def _score(engine: Engine, command: Score) -> ScoreResult:
    try:
        scored = await engine.score(command.model, command.quantization, command.text, command.token_ids)
    except EngineError as error:
        return ScoreResult(request_id=command.request_id, error=_line(error))
    return ScoreResult(request_id=command.request_id, logprobs=scored.logprobs, token_ids=scored.token_ids)


async def _embed(engine: Engine, command: Embed) -> EmbedResult:
    try:
        embedded = await engine.embed(command.model, command.quantization, command.text)
    except EngineError as error:
        return EmbedResult(request_id=command.request_id, error=_line(error))
    return EmbedResult(request_id=command.request_id, values=embedded.values, prompt_tokens=embedded.prompt_tokens)


def _line(error: EngineError) -> str:
    return error.message if isinstance(error, Refused) else str(error)
