"""Models' files for operators: where they lie, what is on its way, and having them fetched or taken away."""

from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from protos.contract.commands import FetchModel, RemoveModel
from protos.contract.events import FetchProgress
from router.config import HttpConfig
from router.fleet.model_control import ModelRow
from router.http.admin.schemas import PullRequest, RemoveRequest
from router.http.server.decoding import decode
from router.http.server.exchange import Exchange

T = TypeVar("T")

BODY_LIMIT_BYTES = 64 * 1024


class FilesControl(Protocol):
    """``router.fleet.model_control.ModelControl``, as this room sees it."""

    def rows(self) -> list[ModelRow]:
        """Every model, by name."""
        ...

    def fetches(self) -> list[tuple[str, FetchProgress]]:
        """What is on its way, by node."""
        ...

    def pull(
        self, node: str, *, model: str, quantization: str = "", content: str = "", sources: tuple[str, ...] = ()
    ) -> FetchModel:
        """Have a machine fetch a model. Raises AllsortsError."""
        ...

    def remove(self, node: str, *, model: str, quantization: str = "", content: str = "") -> RemoveModel:
        """Have a machine delete a model's files. Raises AllsortsError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsAdmin:
    """Handlers that return JSON-ready values."""

    files: FilesControl
    config: HttpConfig

    async def show(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002 - all handlers alike
        """GET /admin/models."""
        return {
            "models": [asdict(one) for one in self.files.rows()],
            "fetches": [{"node": node, **asdict(one)} for node, one in self.files.fetches()],
        }

    async def pull(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/models/pull: begins it; how far it is stands in GET /admin/models."""
        asked = await self._read(exchange, PullRequest)
        told = self.files.pull(
            asked.node,
            model=asked.model,
            quantization=asked.quantization,
            content=asked.content,
            sources=tuple(asked.sources),
        )
        content = told.content.sha256 if told.content is not None else ""
        return {"node": asked.node, "model": told.model, "quantization": told.quantization, "content": content}

    async def remove(self, exchange: Exchange, rest: str) -> Any:  # noqa: ARG002
        """POST /admin/models/remove: the machine has the last word; one that refuses says so as of a fetch."""
        asked = await self._read(exchange, RemoveRequest)
        told = self.files.remove(asked.node, model=asked.model, quantization=asked.quantization, content=asked.content)
        return {"node": asked.node, **asdict(told)}

    async def _read(self, exchange: Exchange, kind: type[T]) -> T:
        body = await exchange.body(BODY_LIMIT_BYTES, self.config.body_deadline_s)
        return decode(msgspec.json.Decoder(kind), body)
