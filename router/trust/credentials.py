"""Join tokens and API keys as the operator manages them; implements ``router.http.server.interfaces.Credentials``."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from protos.contract.joining.join_token import new_token
from protos.contract.models.quantization import find_format, unknown_format
from router.domain.clock import Clock
from router.errors import InvalidRequest, NotFound
from router.state.api_keys import KeyRules, new_key, public_view
from router.state.rows import AuditLine, TokenRow
from router.state.store import Store
from router.trust.join_lines import INSTALL_FACT, InstallFact, bare_line, short_line

MAX_TOKEN_S = 30 * 86400.0
MAX_USES = 10_000


class StoredCredentials:
    """Over the store. ``fingerprint`` is the CA's (None: a plain pool, which needs no tokens); ``enrol_address`` what
    joiners dial.
    """

    def __init__(
        self, *, store: Store, clock: Clock, fingerprint: bytes | None, enrol_address: Callable[[], str]
    ) -> None:
        self._store = store
        self._clock = clock
        self._fingerprint = fingerprint
        self._enrol_address = enrol_address

    async def create_token(
        self, *, ttl_s: float, uses: int, labels: Mapping[str, str], models: Sequence[str] = ()
    ) -> dict[str, Any]:
        """``{token_id, token, line, bare_line, expires_at, uses, labels}``; the secret is here and nowhere else.

        ``bare_line``: for a machine that has Python alone; empty as long as no router has handed itself out.
        """
        if not 0 < ttl_s <= MAX_TOKEN_S:
            raise InvalidRequest("ttl must be more than 0 and at most 30 days", param="ttl_s")
        if not 0 < uses <= MAX_USES:
            raise InvalidRequest(f"uses must be 1 to {MAX_USES}", param="uses")
        if self._fingerprint is None:
            raise InvalidRequest(
                "this pool listens on loopback without TLS, so nobody else can join; start the router with "
                "`--grpc-host 0.0.0.0` (or an address of this machine) to let others in"
            )
        address = self._enrol_address()
        now = self._clock.wall()
        token = new_token(self._fingerprint)
        record = TokenRow(
            token_id=token.token_id,
            secret_sha256=token.secret_sha256(),
            expires_at=now + ttl_s,
            uses=uses,
            labels=dict(labels),
            models=tuple(models),
            created_at=now,
        )
        await self._store.add_token(record, now)
        await self._audit("token.created", token.token_id, f"{uses} uses, {ttl_s:.0f} s")
        return {
            "token_id": token.token_id,
            "token": token.text(),
            "line": short_line(address, token.text()),
            "bare_line": await self._bare_line(address, token.text()),
            "expires_at": record.expires_at,
            "uses": uses,
            "labels": dict(labels),
            "models": list(models),
        }

    async def _bare_line(self, address: str, token: str) -> str:
        told = await self._store.recall(INSTALL_FACT)
        return bare_line(address, msgspec.json.decode(told, type=InstallFact), token) if told else ""

    async def create_key(self, rules: Mapping[str, Any]) -> dict[str, Any]:
        """An API key by its rules (``KeyRules``); the secret is in this reply and nowhere else."""
        try:
            parsed = msgspec.convert(dict(rules), KeyRules)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"the key's rules: {error}") from None
        if parsed.quality_floor is not None:
            parsed = msgspec.structs.replace(parsed, quality_floor=_floor(parsed.quality_floor))
        secret, record = new_key(parsed, key_id=f"key-{secrets.token_hex(4)}", now=self._clock.wall())
        await self._store.add_key(record)
        await self._audit("key.created", record.key_id, ", ".join(record.scopes))
        return {**public_view(record), "key": secret}

    async def list_keys(self) -> list[dict[str, Any]]:
        """Keys without their secrets."""
        return [public_view(record) for record in await self._store.keys()]

    async def delete_key(self, key_id: str) -> None:
        """Forget a key; raises NotFound."""
        if not await self._store.delete_key(key_id):
            raise NotFound(f"no API key '{key_id}'; `allsorts key list` shows those there are")
        await self._audit("key.deleted", key_id, "")

    async def _audit(self, event: str, subject: str, reason: str) -> None:
        await self._store.audit(AuditLine(at=self._clock.wall(), event=event, subject=subject, reason=reason))


def _floor(text: str) -> str:
    """A floor that nothing could be compared with would let everything or nothing through."""
    known = find_format(text)
    if known is None:
        raise InvalidRequest(f"the key's rules: quality_floor: {unknown_format(text)}", param="quality_floor")
    return known.name
