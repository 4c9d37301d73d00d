"""The operator's commands against a running router: keys, scopes, tokens, drain and revoke over HTTP."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Hardware, Profile
from router.cli.support.admin_client import AdminClient
from router.domain.clock import ManualClock
from router.errors import ConfigError
from router.http.auth.authenticator import StoredAuthenticator
from tests.support.http_surface import StillFleet, WordPipeline, http_app, on_loopback
from tests.support.tls_pool import Head, head
from tests.support.until import WITHIN_S
from workers.joining.join import join_fleet

PROFILE = Profile(node="mac", hardware=Hardware(kind="apple", name="Apple M4"), engine="echo")


@contextlib.asynccontextmanager
async def serving(pool: Head, clock: ManualClock) -> AsyncIterator[str]:
    """The pool's HTTP surface on a free loopback port."""
    security = pool.security
    app = http_app(
        pipeline=WordPipeline(),
        fleet=pool.membership,
        control=pool.control,
        credentials=security.credentials,
        explainer=StillFleet(),
        authenticator=StoredAuthenticator(store=security.store, clock=clock, host="127.0.0.1", patience_s=WITHIN_S),
        config=security.config.http,
        clock=security.clock,
    )
    async with on_loopback(app) as url:
        yield url


async def test_tokens_keys_and_revocation_over_http_with_scopes(tmp_path: Path) -> None:
    """Open on loopback until the first key; then 401 without, 403 without the scope, and everything with admin."""
    clock = ManualClock()
    async with head(tmp_path / "head") as pool, serving(pool, clock) as url:
        nobody = AdminClient(url, "")
        made = await nobody.create_key({"name": "me", "scopes": ["admin", "observe", "serve"]})
        admin = AdminClient(url, made["key"])
        user = await admin.create_key({"name": "user"})
        clock.advance(1.5)  # keys are read again after a second
        with pytest.raises(ConfigError, match=r"HTTP 401.*ALLSORTS_API_KEY"):
            await nobody.list_keys()
        with pytest.raises(ConfigError, match=r"HTTP 403.*lacks the scope 'admin'"):
            await AdminClient(url, user["key"]).list_keys()
        assert {one["name"] for one in await admin.list_keys()} == {"me", "user"}
        token = await admin.create_token(ttl_s=60, uses=1, labels={"site": "lab"})
        joined = await join_fleet(pool.enrol_address, parse_token(token["token"]), PROFILE, tmp_path / "mac")
        with pytest.raises(ConfigError, match="HTTP 404"):
            await admin.call("POST", "/admin/revoke", {"node": "nobody"})
        await admin.call("POST", "/admin/revoke", {"node": "mac", "reason": "stolen"})  # it is not connected
        record = await pool.security.store.worker(joined.membership.worker_id)
        assert record is not None
        assert record.revoked_reason == "stolen"
        with pytest.raises(ConfigError, match=r"HTTP 400.*scopes"):
            await admin.create_key({"name": "x", "scopes": ["root"]})
        await admin.delete_key(user["key_id"])
        with pytest.raises(ConfigError, match="no API key"):
            await admin.delete_key(user["key_id"])
