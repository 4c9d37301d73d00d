"""A target's drafts: what routers assign, handed to the engine and kept over its restarts; how they do, told back."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from protos.contract.commands import AssignDraft
from protos.contract.events import DraftReport
from protos.contract.ids import WorkerId
from protos.contract.worker import InstanceState, ModelInstance
from workers.drafting.link import DraftLink, DraftTls
from workers.engines.base import Refused
from workers.serving.engine_host import EngineHost

log = structlog.get_logger(__name__)

REPORT_EVERY_S = 1.0
REPEAT_EVERY_S = 10.0
"""A report that says nothing new is repeated after so long: a router that starts anew hears it too."""


class DraftLinks:
    """``models``: where every model stands; ``say``: to all routers; ``tls``: this worker's certificate."""

    def __init__(
        self,
        engine: EngineHost,
        *,
        models: Callable[[], tuple[ModelInstance, ...]],
        say: Callable[[DraftReport], None],
        tls: DraftTls | None,
    ) -> None:
        self._engine = engine
        self._models = models
        self._say = say
        self._tls = tls
        self._assigned: dict[tuple[str, str], AssignDraft] = {}
        self._refused: dict[tuple[str, str], DraftReport] = {}
        self._said: dict[tuple[str, str], tuple[float, DraftReport]] = {}
        self._work = asyncio.Event()

    def assign(self, own_id: WorkerId, command: AssignDraft) -> None:
        """A router pairs one of the models with a draft, or takes it away."""
        key = command.model, command.quantization
        if command.draft_address:
            self._assigned[key] = command
        else:
            self._assigned.pop(key, None)
            self._refused.pop(key, None)
            self._said.pop(key, None)
        self._hand(own_id, key)
        self._work.set()

    def hand_all(self, own_id: WorkerId) -> None:
        """The engine may be another one, or a model was loaded: it hears of its drafts again."""
        for key in self._assigned:
            self._hand(own_id, key)

    def _hand(self, own_id: WorkerId, key: tuple[str, str]) -> None:
        model = next((one for one in self._models() if one.key == key and one.state is InstanceState.READY), None)
        if model is None:
            return
        command = self._assigned.get(key)
        link = None
        if command is not None:
            link = DraftLink(
                address=command.draft_address,
                draft_worker_id=command.draft_worker_id,
                own_worker_id=own_id,
                model=command.draft_model,
                quantization=command.draft_quantization,
                tokenizer_fingerprint=model.tokenizer_fingerprint,
                draft_length=command.draft_length,
                tls=self._tls,
            )
        try:
            self._engine.engine.assign_draft(*key, link)
            self._refused.pop(key, None)
        except Refused as refused:
            log.info("draft.refused", model=key[0], reason=str(refused))
            if command is not None:
                self._refused[key] = DraftReport(
                    model=key[0], quantization=key[1], draft_worker_id=command.draft_worker_id, paused=str(refused)
                )

    async def follow(self) -> None:
        """Tell how the drafts do, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            if not self._assigned:
                self._work.clear()
                continue
            self.tell(loop.time())
            await asyncio.sleep(REPORT_EVERY_S)

    def tell(self, now: float) -> None:
        """What there is to say at ``now``, monotonic seconds."""
        for report in (*self._engine.engine.draft_reports(), *self._refused.values()):
            key = report.model, report.quantization
            at, before = self._said.get(key, (float("-inf"), None))
            if key in self._assigned and (before is None or _news(before, report) or now - at >= REPEAT_EVERY_S):
                self._said[key] = now, report
                self._say(report)


def _news(before: DraftReport, report: DraftReport) -> bool:
    """Whether anything but smoothed figures moved."""
    before, report = (replace(one, rtt_s=0.0, token_s=0.0, wasted_s=0.0) for one in (before, report))
    return before != report
