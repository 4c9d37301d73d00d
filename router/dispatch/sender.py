"""Sends a placed request over its worker's session."""

from dataclasses import replace

from protos.contract.commands import Generate
from protos.contract.request import ContinueFrom, Job
from protos.contract.worker import ModelInstance
from router.config import DispatchConfig
from router.dispatch.answer_bounds import AnswerBounds, most_prompt_tokens
from router.dispatch.answer_memory import AnswerAccount
from router.dispatch.attempt import Attempt
from router.domain.clock import Clock
from router.domain.placement import Placed
from router.domain.request import RequestKind
from router.fleet.membership import Membership
from router.scheduling.events import Send

LONGEST_ANSWER_TOKENS = 1 << 20
"""Nobody gets a longer answer, whatever context a worker claims and whatever limit a client gives."""

MAX_DEADLINE_S = 86_400.0


class Sender:
    """Turns the scheduler's ``Send`` into an attempt."""

    def __init__(self, *, membership: Membership, config: DispatchConfig, clock: Clock) -> None:
        self._membership = membership
        self._config = config
        self._clock = clock

    def send(
        self, send: Send, *, max_tokens: int | None, resume: ContinueFrom | None, account: AnswerAccount
    ) -> Attempt | None:
        """Send the command; None when the worker's session is gone already. ``max_tokens``: what is left of the
        client's budget; ``account``: what the answer holds.
        """
        request, placed = send.request, send.placed
        session = self._membership.session_of(placed.worker_id)
        if session is None:
            return None
        budget = min(LONGEST_ANSWER_TOKENS, self._context(placed) if max_tokens is None else max_tokens)
        told = max_tokens if max_tokens is None and budget < LONGEST_ANSWER_TOKENS else budget
        continued_bytes = 0 if resume is None else len(resume.text.encode("utf-8", "surrogatepass"))
        attempt = Attempt(
            request_id=request.request_id,
            number=send.attempt,
            placed=placed,
            session=session,
            bounds=AnswerBounds(
                token_budget=budget,
                prompt_tokens=most_prompt_tokens(request, continued_bytes),
                answer_bytes=self._config.answer_limit_bytes,
                vectors=0 if request.embedding is None else len(request.embedding.inputs),
            ),
            account=account,
            conditional=send.max_queued_prefill_tokens > 0,
        )
        now = self._clock.now()
        session.open(attempt.key, attempt.on_event)
        attempt.sequence = session.send(
            Generate(
                job=self._job(send, told, resume, now),
                max_queued_prefill_tokens=send.max_queued_prefill_tokens,
                expected_prefill_tokens=max(0, request.prompt_tokens_estimate - placed.prediction.cached_tokens),
            )
        )
        attempt.started_at = now
        return attempt

    def _job(self, send: Send, max_tokens: int | None, resume: ContinueFrom | None, now: float) -> Job:
        """What the worker is asked for."""
        request, sampling = send.request, send.request.sampling
        if sampling.max_tokens != max_tokens:
            sampling = replace(sampling, max_tokens=max_tokens)
        chat = request.kind is RequestKind.CHAT
        return Job(
            request_id=request.request_id,
            attempt=send.attempt,
            model=request.model.name,
            quantization=send.placed.quantization,
            messages=request.messages if chat else (),
            prompt="" if chat else request.prompt,
            embedding=request.embedding,
            tooling=request.tooling,
            grammar=request.grammar,
            template_arguments=request.template_arguments,
            sampling=sampling,
            block_hashes=request.block_hashes,
            cache_salt=request.cache_salt,
            expected_output_tokens=request.expected_output_tokens,
            continue_from=resume,
            deadline_s=max(0.0, min(request.deadline_at - now, MAX_DEADLINE_S)),
            priority=request.priority,
            return_token_ids=self._config.return_token_ids,
        )

    def instance(self, placed: Placed) -> ModelInstance | None:
        """The model instance a placement chose, if its worker is still known."""
        member = self._membership.member(placed.worker_id)
        return None if member is None else member.models.get((placed.model, placed.quantization))

    def _context(self, placed: Placed) -> int:
        instance = self.instance(placed)
        return (instance.context_tokens if instance else 0) or LONGEST_ANSWER_TOKENS
