"""What an operator does with models' files: see where they lie, have them fetched to a machine, or taken away."""

from collections.abc import Callable
from dataclasses import dataclass

from protos.contract.commands import POOL, FetchModel, RemoveModel, RouterCommand
from protos.contract.events import FetchProgress
from protos.contract.files.content import HeldModel, ModelContent
from protos.contract.models.model_name import parse_name
from protos.contract.worker import InstanceState
from router.errors import InvalidRequest, NotFound, Unavailable
from router.fleet.member import Member
from router.fleet.membership import Membership

FILES_SINCE = 2
"""The protocol version from which on workers hold and fetch files."""

HEAD = "head"

_GONE = (InstanceState.FAILED, InstanceState.UNLOADED, InstanceState.FETCHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One model by its content (empty: not known), and the nodes that hold its files, and that have it loaded."""

    model: str
    quantization: str
    format: str
    content: str
    size_bytes: int
    files: int
    held_by: tuple[str, ...]
    loaded_by: tuple[str, ...]


class ModelControl:
    """``head``: what lies in the head's own folder."""

    def __init__(self, *, membership: Membership, head: Callable[[], tuple[HeldModel, ...]]) -> None:
        self._membership = membership
        self._head = head

    def rows(self) -> list[ModelRow]:
        """Every model whose files lie somewhere, and those loaded whose files nobody told of, by name."""
        nodes = {view.worker_id: view.profile.node for view in self._membership.snapshot().workers}
        held: dict[tuple[str, str, str], tuple[HeldModel, list[str]]] = {}
        for one in self._head():
            held.setdefault((one.model, one.quantization, one.content.sha256), (one, []))[1].append(HEAD)
        for copies in self._membership.files.copies():
            one = copies.held
            entry = held.setdefault((one.model, one.quantization, one.content.sha256), (one, []))
            entry[1].extend(nodes[worker] for worker in copies.workers if worker in nodes)
        loaded: dict[tuple[str, str, str], list[str]] = {}
        facts: dict[tuple[str, str, str], tuple[str, int]] = {}
        for view in self._membership.snapshot().workers:
            for instance in view.models:
                if instance.state not in _GONE:
                    key = (instance.model, instance.quantization, instance.content)
                    loaded.setdefault(key, []).append(view.profile.node)
                    facts[key] = (instance.format, instance.weights_bytes)
        return [
            _row(key, held.get(key), loaded.get(key, []), facts.get(key, ("", 0))) for key in sorted({*held, *loaded})
        ]

    def fetches(self) -> list[tuple[str, FetchProgress]]:
        """What is on its way, or has failed to come, by node."""
        files = self._membership.files
        return [
            (view.profile.node, one)
            for view in self._membership.snapshot().workers
            for one in files.fetches_of(view.worker_id)
        ]

    def pull(
        self, node: str, *, model: str, quantization: str = "", content: str = "", sources: tuple[str, ...] = ()
    ) -> FetchModel:
        """Have a machine fetch a model: one that the pool has, or from ``sources``. The answer is what it was told.

        Raises NotFound, InvalidRequest, Unavailable.
        """
        member = self._takes_files(node)
        if sources and POOL not in sources and not content:
            asked = FetchModel(model=model or _named(sources[0]), quantization=quantization, sources=sources)
        else:
            found = self._one(model, quantization, content)
            asked = FetchModel(
                model=found.model, quantization=found.quantization, content=found.content, sources=sources or (POOL,)
            )
        if why := member.rules.why_not(asked.model):
            raise InvalidRequest(f"{node}: {why}")
        self._send(member, asked)
        # What was said of an earlier try is over; of this one nothing is known yet.
        begun = FetchProgress(model=asked.model, quantization=asked.quantization)
        self._membership.files.tell_fetch(member.worker_id, begun)
        return asked

    def remove(self, node: str, *, model: str, quantization: str = "", content: str = "") -> RemoveModel:
        """Have a machine delete a model's files. The answer is what it was told. Raises as ``pull`` does."""
        member = self._takes_files(node)
        here = self._membership.files.held_by(member.worker_id).models
        found = _only([one for one in here if _is(one, model, quantization, content)], f"on {node}", model)
        for instance in member.models.values():
            if instance.content == found.content.sha256 and instance.state not in _GONE:
                raise InvalidRequest(
                    f"{found.model}@{found.quantization} is {instance.state} on {node}; have it unloaded first"
                )
        asked = RemoveModel(model=found.model, quantization=found.quantization, content=found.content.sha256)
        self._send(member, asked)
        self._membership.files.forget_fetch(member.worker_id, asked.model, asked.quantization)
        return asked

    def content(self, sha256: str) -> ModelContent | None:
        """A model's files by its identity, wherever they lie; None: nowhere."""
        own = next((one.content for one in self._head() if one.content.sha256 == sha256), None)
        return own or self._membership.files.content(sha256)

    # -- inside ----------------------------------------------------------------------------------------

    def _takes_files(self, node: str) -> Member:
        member = self._membership.find(node)
        if not self._membership.connected(member.worker_id):
            raise Unavailable(f"{node} is not connected now")
        if member.profile.protocol_version < FILES_SINCE:
            raise Unavailable(f"{node} runs an older version, which fetches no files: `allsorts upgrade` there")
        if not self._membership.files.tells(member.worker_id):
            raise Unavailable(f"{node} keeps no model files for its engine ({member.profile.engine}), or still looks")
        return member

    def _one(self, model: str, quantization: str, content: str) -> HeldModel:
        """The model by its name, or by the beginning of its hash. Raises NotFound, InvalidRequest."""
        every = [*self._head(), *(one.held for one in self._membership.files.copies())]
        return _only([one for one in every if _is(one, model, quantization, content)], "in the pool", model or content)

    def _send(self, member: Member, command: RouterCommand) -> None:
        session = self._membership.session_of(member.worker_id)
        if session is None:
            raise Unavailable(f"{member.profile.node} is not connected now")
        session.send(command)


def _is(held: HeldModel, model: str, quantization: str, content: str) -> bool:
    return (
        model in ("", held.model)
        and quantization in ("", held.quantization)
        and held.content.sha256.startswith(content)
    )


def _only(found: list[HeldModel], where: str, asked: str) -> HeldModel:
    by_content = {one.content.sha256: one for one in found}
    if not by_content:
        raise NotFound(f"there are no files of {asked or 'that model'} {where}; `allsorts models` lists what there is")
    if len(by_content) > 1:
        several = ", ".join(
            f"{one.model}@{one.quantization} ({one.content.sha256[:12]})" for one in by_content.values()
        )
        raise InvalidRequest(f"{asked or 'it'} is several models {where}: {several}; name one, or its hash")
    return next(iter(by_content.values()))


def _named(source: str) -> str:
    return parse_name(source.partition("?")[0]).model.lower()


def _row(
    key: tuple[str, str, str], held: tuple[HeldModel, list[str]] | None, loaded: list[str], facts: tuple[str, int]
) -> ModelRow:
    model, quantization, content = key
    return ModelRow(
        model=model,
        quantization=quantization,
        format=held[0].format if held else facts[0],
        content=content,
        size_bytes=held[0].content.size_bytes if held else facts[1],
        files=len(held[0].content.parts) if held else 0,
        held_by=tuple(sorted(held[1])) if held else (),
        loaded_by=tuple(sorted(loaded)),
    )
