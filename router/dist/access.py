"""Who may take what the head hands out: holders of a join token, and machines that have joined."""

from collections.abc import Mapping
from typing import Any

from protos.contract.joining.enrolment import EnrolRefused, ReasonCode
from protos.contract.joining.join_token import BadToken, parse_token
from router.domain.clock import Clock
from router.errors import NotAllowed, NotAuthenticated
from router.state.store import Store


class Access:
    """Over the store. ``fingerprint`` is the CA's."""

    def __init__(self, store: Store, fingerprint: bytes, clock: Clock) -> None:
        self._store = store
        self._fingerprint = fingerprint
        self._clock = clock

    async def check(self, authorization: str, certificate: Mapping[str, Any] | None) -> str:
        """Who it is, for the log. ``certificate``: of the connection, verified by TLS, as ``getpeercert`` gives it.

        Raises NotAuthenticated, NotAllowed.
        """
        if certificate:
            return await self._joined(certificate)
        scheme, _, text = authorization.partition(" ")
        if scheme.lower() != "bearer" or not text:
            raise NotAuthenticated("show a join token: Authorization: Bearer as1.…, or the certificate of this pool")
        return await self._token(text)

    async def _joined(self, certificate: Mapping[str, Any]) -> str:
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        record = await self._store.worker(names[0]) if names else None
        if record is None or record.revoked_at is not None:
            raise NotAllowed("this machine is not in the pool, or was revoked")
        return record.worker_id

    async def _token(self, text: str) -> str:
        """A token that is used up still fetches: the machine that used it may have lost what it fetched."""
        try:
            token = parse_token(text)
        except BadToken as error:
            raise NotAuthenticated(str(error)) from None
        if not token.is_for(self._fingerprint):
            raise NotAllowed("the token is of another pool; make one with `allsorts token create` on this head")
        refused = await self._store.examine(token.token_id, token.secret_sha256(), self._clock.wall())
        if isinstance(refused, EnrolRefused) and refused.code is not ReasonCode.TOKEN_USED:
            raise NotAllowed(refused.reason)
        return f"token {token.token_id}"
