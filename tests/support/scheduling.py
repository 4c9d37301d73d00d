"""A scheduler with the real fleet behind it and nothing else: no event loop, no socket, time by hand."""

import random
from dataclasses import replace
from typing import Any

from loadtest.simulate.router_side import SimulatedSession
from protos.contract.ids import RequestId, WorkerId
from protos.contract.stream import Refusal, RefusalCode
from protos.contract.worker import Load, ModelInstance
from router.config import FleetConfig
from router.domain.clock import ManualClock
from router.domain.placement import Ending, Outcome
from router.domain.request import InferenceRequest
from router.fleet.membership import Membership
from router.scheduling.admission.limits import AdmissionLimits
from router.scheduling.claims import Claims
from router.scheduling.events import (
    Arrived,
    AttemptEnded,
    ClientLeft,
    CommandSent,
    Event,
    Fault,
    Instruction,
    LoadReported,
    Send,
    Tick,
    WorkerAccepted,
    WorkerGone,
    WorkerRefused,
)
from router.scheduling.placement.factory import build_placer
from router.scheduling.placement.placer import ComposedPlacer
from router.scheduling.scheduler import RetryLimits, Scheduler
from tests.support.fleets import instance, worker


class Pool:
    """Workers by name, each with one instance of model ``m``."""

    def __init__(
        self,
        *names: str,
        instances: dict[str, ModelInstance] | None = None,
        limits: AdmissionLimits | None = None,
        retries: RetryLimits | None = None,
        replicas: int = 1,
    ) -> None:
        self.clock = ManualClock()
        self.claims = Claims()
        self.membership = Membership(FleetConfig(), self.clock, self.claims)
        self.placer: ComposedPlacer = build_placer("cost", rng=random.Random(0), replicas=replicas)
        self.scheduler = Scheduler(
            placer=self.placer, claims=self.claims, fleet=self.membership, limits=limits, retries=retries
        )
        self.membership.on_gone(lambda worker_id: self.tell(WorkerGone(worker_id)) and None)
        self._instances = instances or {}
        self._sessions = 0
        for name in names:
            self.join(name)

    def tell(self, event: Event) -> list[Instruction]:
        """One event; afterwards every book agrees."""
        instructions = self.scheduler.handle(event, self.clock.now())
        self.scheduler.validate()
        return instructions

    def join(self, name: str) -> None:
        """The worker dials in, ready."""
        view = worker(name, self._instances.get(name, instance()))
        self._sessions += 1
        session = SimulatedSession(view.worker_id, self._sessions)
        self.membership.join(session, view.profile, view.models, cordoned=False)

    def leave(self, name: str) -> None:
        """Its session breaks; its attempts are still to end."""
        session = self.membership.session_of(WorkerId(name))
        if session is not None:
            self.membership.leave(session, "the connection broke")

    def load(self, name: str, *, seen: bool = True, **figures: Any) -> list[Instruction]:
        """A load report that has seen every command, or none."""
        member = self.membership.member(WorkerId(name))
        assert member is not None
        self.membership.set_load(member, Load(observed_at=self.clock.now(), last_command=seen << 40, **figures))
        return self.tell(LoadReported(WorkerId(name))) + self.tell(Tick())

    def arrive(self, request: InferenceRequest) -> list[Instruction]:
        """A client's request, arriving now."""
        return self.tell(Arrived(replace(request, arrived_at=self.clock.now())))

    def send(self, send: Send) -> None:
        """Its command goes out."""
        session = self.membership.session_of(send.placed.worker_id)
        assert session is not None
        self.tell(CommandSent(send.request_id, session.send(None)))

    def accept(self, send: Send, prompt_tokens: int = 1000) -> None:
        """The worker takes it."""
        self.send(send)
        self.accepted(send, prompt_tokens)

    def accepted(self, send: Send, prompt_tokens: int = 1000) -> None:
        """The worker takes what was sent."""
        self.tell(WorkerAccepted(send.request_id, prompt_tokens))

    def unsent(self, send: Send, tokens: int = 0) -> list[Instruction]:
        """Its worker left before the command went out."""
        ended = AttemptEnded(send.request_id, Outcome(ending=Ending.UNSENT), sent_tokens=tokens, started=tokens > 0)
        return self.tell(ended)

    def refuse(self, send: Send, code: RefusalCode, **about: Any) -> list[Instruction]:
        """The worker says no."""
        refusal = Refusal(request_id=send.request_id, attempt=send.attempt, code=code, message="no", **about)
        ending = Ending.CONFLICT if code is RefusalCode.CONFLICT else Ending.REFUSED
        return self.tell(WorkerRefused(send.request_id, refusal, Outcome(ending=ending)))

    def lose(
        self,
        send: Send,
        *,
        tokens: int = 0,
        fault: Fault = Fault.FAILURE,
        progressed: bool | None = None,
        complete: bool = False,
    ) -> list[Instruction]:
        """The attempt breaks off with so many tokens at the client."""
        outcome = Outcome(ending=Ending.LOST, ttft_s=0.1 if tokens else None, completion_tokens=tokens)
        ended = AttemptEnded(
            send.request_id,
            outcome,
            reason="it broke",
            fault=fault,
            sent_tokens=tokens,
            started=tokens > 0,
            progressed=tokens > 0 if progressed is None else progressed,
            complete=complete,
        )
        return self.tell(ended)

    def finish(self, send: Send, tokens: int = 10) -> list[Instruction]:
        """The answer is complete."""
        outcome = Outcome(ending=Ending.STOP, ttft_s=0.1, e2e_s=1.0, prompt_tokens=1000, completion_tokens=tokens)
        return self.tell(AttemptEnded(send.request_id, outcome)) + self.tell(Tick())

    def abandon(self, request_id: str, outcome: Outcome | None = None) -> list[Instruction]:
        """The client leaves."""
        return self.tell(ClientLeft(RequestId(request_id), outcome)) + self.tell(Tick())


def sends(instructions: list[Instruction]) -> list[Send]:
    """Those that go somewhere."""
    return [one for one in instructions if isinstance(one, Send)]
