"""Join tokens: ``as1.<hash of the CA>.<token id>.<secret>``.

The hash lets the joining machine check the CA before it sends anything; the secret is 256 random bits and only its
hash is kept.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

PREFIX = "as1"


class BadToken(ValueError):
    """Not a join token; one line that does not repeat it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A token taken apart. Its ``repr`` shows no secret."""

    authority_sha256: bytes  # of the CA's certificate, DER
    token_id: str
    secret: str

    def __repr__(self) -> str:
        """Safe in logs."""
        return f"JoinToken(token_id={self.token_id!r})"

    def text(self) -> str:
        """As the operator pastes it."""
        return ".".join(
            (PREFIX, base64.urlsafe_b64encode(self.authority_sha256).decode().rstrip("="), self.token_id, self.secret)
        )

    def secret_sha256(self) -> str:
        """What the store keeps."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def is_for(self, authority_sha256: bytes) -> bool:
        """Whether the token was made by this CA's pool."""
        return hmac.compare_digest(self.authority_sha256, authority_sha256)


def new_token(authority: bytes) -> JoinToken:
    """A fresh token of the pool whose CA has this fingerprint."""
    return JoinToken(authority_sha256=authority, token_id=secrets.token_hex(4), secret=secrets.token_urlsafe(32))


def parse_token(text: str) -> JoinToken:
    """Raises BadToken."""
    parts = text.strip().split(".")
    if len(parts) != 4 or parts[0] != PREFIX or len(text) > 512 or not all(parts):
        raise BadToken(f"not a join token: it should look like {PREFIX}.….….…; copy the whole line again")
    try:
        authority = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        raise BadToken("the join token is damaged; copy the whole line again") from None
    if len(authority) != 32:
        raise BadToken("the join token is damaged; copy the whole line again")
    return JoinToken(authority_sha256=authority, token_id=parts[2], secret=parts[3])
