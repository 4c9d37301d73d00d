"""Sends a placed request over its worker's session."""

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.worker import ModelInstance
from router.config import DispatchConfig
from router.dispatch.attempt import Attempt
from router.dispatch.transcript import Resume
from router.domain.clock import Clock
from router.domain.placement import Placed
from router.fleet.membership import Membership
from router.scheduling.events import Send
from router.sessions import codec

BUDGET_UNKNOWN = 1 << 20
"""Token budget when the client gave none and the model's context is not known."""

MAX_DEADLINE_S = 86_400.0


class Sender:
    """Turns the scheduler's ``Send`` into an attempt."""

    def __init__(self, *, membership: Membership, config: DispatchConfig, clock: Clock) -> None:
        self._membership = membership
        self._config = config
        self._clock = clock

    def send(self, send: Send, *, max_tokens: int | None, resume: Resume | None) -> Attempt | None:
        """Send the command; None when the worker's session is gone already. ``max_tokens``: what is left of the
        client's budget.
        """
        request, placed = send.request, send.placed
        session = self._membership.session_of(placed.worker_id)
        if session is None:
            return None
        attempt = Attempt(
            request_id=request.request_id,
            number=send.attempt,
            placed=placed,
            session=session,
            token_budget=self._context(placed) if max_tokens is None else max_tokens,
            conditional=send.max_queued_prefill_tokens > 0,
        )
        now = self._clock.now()
        command = codec.generate_to(
            request,
            attempt=send.attempt,
            quantization=placed.quantization,
            max_tokens=max_tokens,
            deadline_s=max(0.0, min(request.deadline_at - now, MAX_DEADLINE_S)),
            return_token_ids=self._config.return_token_ids,
            continue_from=None if resume is None else _continue_from(resume),
            most_pending_tokens=send.max_queued_prefill_tokens,
            expected_prefill_tokens=max(0, request.prompt_tokens_estimate - placed.prediction.cached_tokens),
        )
        session.open(attempt.key, attempt.on_event)
        attempt.sequence = session.send(pb.RouterCommand(generate=command))
        attempt.started_at = now
        return attempt

    def instance(self, placed: Placed) -> ModelInstance | None:
        """The model instance a placement chose, if its worker is still known."""
        member = self._membership.member(placed.worker_id)
        return None if member is None else member.models.get((placed.model, placed.quantization))

    def _context(self, placed: Placed) -> int:
        instance = self.instance(placed)
        return (instance.context_tokens if instance else 0) or BUDGET_UNKNOWN


def _continue_from(resume: Resume) -> pb.ContinueFrom:
    return codec.continue_from_to(
        text=resume.text,
        token_ids=resume.token_ids,
        tokenizer_fingerprint=resume.tokenizer_fingerprint,
        output_tokens=resume.output_tokens,
    )
