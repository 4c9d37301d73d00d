"""Model files as the planner counts them: those a worker told of when it joined, and those that came since."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from protos.contract.files.content import HeldModel, ModelContent
from protos.contract.files.parts import entry_of
from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState, ModelInstance
from router.fleet.member import Member
from router.fleet.pool_files import PoolFiles

Facts = Mapping[str, Sequence[ModelInstance]]
"""What somebody told of a file, by its name."""


class TravellingFiles:
    """Over what workers say that they hold."""

    def __init__(self, files: PoolFiles) -> None:
        self._files = files

    def of(self, member: Member, known: Facts) -> tuple[ModelInstance, ...]:
        """Files that lie at a worker, with what is known of each."""
        told = {one.file for one in member.files}
        held = self._files.held_by(member.worker_id).models
        came = (one for one in held if name_of(one) and name_of(one) not in told)
        return (*member.files, *(_as_file(one, known) for one in came))

    def room_bytes(self, worker_id: WorkerId) -> int:
        """On its disk, for files that are fetched."""
        return self._files.held_by(worker_id).room_bytes

    def travels(self) -> dict[str, int]:
        """Files to be had from some machine, and their bytes."""
        return {
            name_of(one.held): one.held.content.size_bytes
            for one in self._files.copies()
            if name_of(one.held) and any(self._files.held_by(worker).shares for worker in one.workers)
        }

    def content_of(self, file: str) -> ModelContent | None:
        """What a file of this name is, where some machine has it."""
        return next((one.held.content for one in self._files.copies() if name_of(one.held) == file), None)


def name_of(held: HeldModel) -> str:
    """Of the file that is loaded, of several the first; empty: its folder is, and folders are not planned with."""
    return entry_of([part.name for part in held.content.parts])


def _as_file(held: HeldModel, known: Facts) -> ModelInstance:
    name = name_of(held)
    facts = next(iter(known.get(name, ())), None) or ModelInstance(
        model=held.model, quantization=held.quantization, weights_bytes=held.content.size_bytes
    )
    return replace(
        facts,
        model=held.model,
        quantization=held.quantization,
        file=name,
        content=held.content.sha256,
        state=InstanceState.UNLOADED,
        ordered="",
        error="",
        speed=None,
    )
