"""What the HTTP surface asks of the rest of the router; ``router.app`` hands the implementations in."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from router.domain.answer import Answer
from router.domain.principal import Principal, Scope
from router.domain.request import InferenceRequest
from router.domain.snapshot import FleetSnapshot
from router.fleet.desired.values import DesiredState
from router.fleet.planning.foresight import Foreseen
from router.fleet.planning.observed import Observed
from router.http.auth.meters import Reservation
from router.state.rows import ResponseRow


class Pipeline(Protocol):
    """The life of a request."""

    async def answer(self, request: InferenceRequest) -> Answer:
        """Admit, place and dispatch; returns once a worker has accepted. Raises AllsortsError before that."""
        ...


class FleetReader(Protocol):
    """The fleet as it is now."""

    def snapshot(self) -> FleetSnapshot:
        """Immutable view, cheap to take."""
        ...

    def known_models(self) -> tuple[str, ...]:
        """Every model name any worker served since this router started."""
        ...


class FleetControl(Protocol):
    """What an operator does to the fleet; ``node`` is a node name or worker id. Unknown nodes raise NotFound."""

    async def drain(self, node: str, deadline_s: float) -> None:
        """Finish what runs within the deadline, take nothing new, then move what is left."""
        ...

    async def undrain(self, node: str) -> None:
        """Take work again; also lifts a cordon."""
        ...

    async def cordon(self, node: str) -> None:
        """Place nothing new there, across restarts."""
        ...

    async def revoke(self, node: str, reason: str) -> None:
        """Cut the node off at once and for good."""
        ...

    async def refuse_model(self, node: str, model: str) -> None:
        """Place nothing for this model there any more, across restarts."""
        ...


class FleetWishes(Protocol):
    """What an operator wants of the fleet, and how far it is."""

    @property
    def desired(self) -> DesiredState:
        """What is wanted now."""
        ...

    @property
    def version(self) -> int:
        """Of it; 0: nothing was ever wanted."""
        ...

    async def refresh(self) -> None:
        """Read what another replica was told."""
        ...

    def observe(self) -> Observed:
        """The fleet now, as a plan sees it."""
        ...

    def foresee(self, desired: DesiredState, observed: Observed) -> Foreseen:
        """What would change; nothing does. Pure: it may run in a thread."""
        ...

    async def apply(self, desired: DesiredState, version: int) -> int:
        """Want this from now on; ``version``: that of the state it replaces. Returns its own."""
        ...

    async def status(self) -> dict[str, Any]:
        """Every wanted model with its copies, what is under way, and what does not fit; JSON-ready."""
        ...


class ModelWaits(Protocol):
    """What a request has to do with models that come and go."""

    def coming(self, model: str) -> str:
        """What a request for it waits for until a worker has loaded it, in one line; empty: nothing is to be loaded."""
        ...

    def keep_alive(self, model: str, seconds: float) -> None:
        """A client asks that the model stays loaded so long after its last use; infinite: for ever."""
        ...

    def stays(self) -> Mapping[str, float]:
        """By model, seconds until it goes if nobody uses it meanwhile; one that is not named just stays."""
        ...


class Credentials(Protocol):
    """Join tokens and API keys, as the operator manages them. All values are JSON-ready."""

    async def create_token(
        self, *, ttl_s: float, uses: int, labels: Mapping[str, str], models: Sequence[str] = ()
    ) -> dict[str, Any]:
        """A join token with the line to paste on the other machine."""
        ...

    async def create_key(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        """An API key; the secret is in this reply and nowhere else."""
        ...

    async def list_keys(self) -> list[dict[str, Any]]:
        """Keys without their secrets."""
        ...

    async def delete_key(self, key_id: str) -> None:
        """Forget a key; raises NotFound."""
        ...


class Explainer(Protocol):
    """Decision records."""

    def explain(self, request_id: str) -> dict[str, Any] | None:
        """The record of one request, JSON-ready; None when it was not sampled or has aged out."""
        ...


class ResponseStore(Protocol):
    """Answers that clients come back to, each its owner's (the id of a key) alone. Raises StoreFailed."""

    async def keep_response(self, owner: str, row: ResponseRow, limit_bytes: int, now: float) -> bool:
        """Keep an answer until it expires, or the bytes of all are needed; False: it is too large."""
        ...

    async def response(self, owner: str, response_id: str, now: float) -> ResponseRow | None:
        """An answer; None when there is none, or its time is over."""
        ...

    async def forget_response(self, owner: str, response_id: str, now: float) -> bool:
        """Erase an answer; False when there is none."""
        ...


class Authenticator(Protocol):
    """Tells who is asking."""

    async def authenticate(self, authorization: str | None, scope: Scope, *, counted: bool = True) -> Principal:
        """The caller behind an Authorization header. ``counted``: a request that counts against its limit.

        Raises NotAuthenticated (401), NotAllowed (403) or RateLimited (429).
        """
        ...

    def rate_headers(self, principal: Principal) -> tuple[tuple[bytes, bytes], ...]:
        """OpenAI's x-ratelimit-* headers for this caller, empty when it has no limits."""
        ...

    def reserve(self, principal: Principal, tokens: int) -> Reservation:
        """Take what a request is expected to cost from the caller's limit. Raises RateLimited."""
        ...
