"""Reading join tokens: ``as1.<hash of the CA>.<token id>.<secret>``, made by ``router/trust/join_token.py``."""

import base64
from dataclasses import dataclass, field

PREFIX = "as1"


class BadToken(ValueError):
    """Not a join token; one line that does not repeat it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """What a joining machine needs of a token: the CA's hash to check, the text to hand over afterwards."""

    authority_sha256: bytes
    text: str = field(repr=False)


def parse_token(text: str) -> JoinToken:
    """Raises BadToken."""
    parts = text.strip().split(".")
    if len(parts) != 4 or parts[0] != PREFIX or not all(parts):
        raise BadToken(f"--token is not a join token: it looks like {PREFIX}.….….…; copy the whole line again")
    try:
        authority = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        authority = b""
    if len(authority) != 32:
        raise BadToken("the join token is damaged; copy the whole line again")
    return JoinToken(authority_sha256=authority, text=text.strip())
