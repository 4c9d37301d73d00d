"""Who is asking: API keys against the store, scopes, and each key's limits. Open only while there never were any keys,
and then on loopback only: whoever deletes the last one, or loses the store, opens nothing while the router runs.

Keys are read from the store at most once in ``CACHED_S``, never per request. A key deleted elsewhere counts until
then. A key made elsewhere counts at once: what looks like one of ours and is not known is looked up anew, at most once
in ``LOOKED_UP_S``. While there are no keys it is always looked up: the first key's holder must come under its rules,
and not be taken for the local user.

Where there are several router replicas (``shared``), a key's limits are counted by all of them together: what each
spent is told to the store as a request comes and again once it was counted, and the level that stands there is what
counts. So of requests at the very same moment each replica may let one too many pass. While the store is away, each
counts alone.

A store that takes its time (a Redis that hangs, a disk that is busy) holds up nobody whose key is known for longer than
``PATIENCE_S``: what was read last counts until it has answered.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from protos.contract.addresses import is_loopback
from router.domain.clock import Clock
from router.domain.principal import LOCAL, Principal, Scope
from router.domain.token_bucket import TokenBucket
from router.errors import ConfigError, NotAllowed, NotAuthenticated, RateLimited, Unavailable
from router.http.auth.meters import MAX_DEBT_S, Meters, Reservation
from router.state.api_keys import PREFIX, principal_of, secret_hash
from router.state.backend import StoreFailed
from router.state.rows import KeyRow
from router.state.store import Store

log = structlog.get_logger()

CACHED_S = 1.0
LOOKED_UP_S = 0.02
PATIENCE_S = 0.1
ALONE_S = 1.0
"""How long a replica counts alone once the store has kept it waiting."""

ROOM_EVERY_S = 0.25
"""How old what callers are told of the pool's room may be."""
MAX_HEADER_CHARS = 512


class StoredAuthenticator:
    """Implements ``router.http.server.interfaces.Authenticator``. ``host`` is where HTTP listens; ``room``: requests
    that the pool takes at once, running and queued, and how many it has, for callers without limits of their own.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        host: str,
        room: Callable[[], tuple[int, int]] | None = None,
        shared: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._room = room
        self._pool_headers: tuple[tuple[bytes, bytes], ...] = ()
        self._pool_seen_at = -ROOM_EVERY_S
        self._open = is_loopback(host)
        self._keys: dict[str, KeyRow] | None = None  # by hash; None: not read yet
        self._read_at = 0.0
        self._had_keys = False  # once there were some, their loss opens nothing
        self._reading = asyncio.Lock()
        self._meters: dict[str, Meters] = {}
        self._shared = shared
        self._patience_s = patience_s
        self._refreshing: asyncio.Task[dict[str, KeyRow]] | None = None
        self._refresh_is_late = False
        self._alone_until = 0.0  # monotonic: the store keeps those waiting who tell the other replicas
        self._telling: set[asyncio.Task[None]] = set()

    async def authenticate(self, authorization: str | None, scope: Scope, *, counted: bool = True) -> Principal:
        """The caller; with ``serve``, unless told otherwise, one more of its requests.

        Raises NotAuthenticated, NotAllowed, RateLimited.
        """
        keys = await self._known_keys()
        looks_like_ours = PREFIX in (authorization or "")
        given = _hash_of(authorization) if keys or looks_like_ours else ""
        if given not in keys and looks_like_ours:
            keys = await self._current_keys(LOOKED_UP_S if keys else 0.0)
        if not keys and self._open and not self._had_keys:
            return LOCAL
        record = keys.get(given)
        if not keys and self._had_keys:
            raise NotAuthenticated(
                "This router's last API key is gone, and it stays closed: make one with `allsorts key create`, or "
                "restart the router to open it to its own machine"
            )
        if record is None:
            raise NotAuthenticated("Incorrect API key provided. Keys are made on the router: allsorts key create")
        if record.expires_at is not None and self._clock.wall() > record.expires_at:
            raise NotAuthenticated(f"The API key {record.key_id} has expired. Make a new one: allsorts key create")
        principal = principal_of(record)
        if scope not in principal.scopes:
            raise NotAllowed(
                f"The API key {record.key_id} lacks the scope '{scope}'; it has: " + ", ".join(sorted(principal.scopes))
            )
        if counted and scope is Scope.SERVE:
            if self._shared:
                await self._share(principal)
            self._count_request(principal)
            self._tell(principal)
        return principal

    def _tell(self, principal: Principal) -> None:
        """The other replicas, of what was just spent; nobody waits for it."""
        if self._shared and self._limited_by(principal) and not self._store_is_late:
            task = asyncio.create_task(self._share(principal))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    @property
    def _store_is_late(self) -> bool:
        return time.monotonic() < self._alone_until

    @staticmethod
    def _limited_by(principal: Principal) -> bool:
        return principal.requests_per_minute is not None or principal.tokens_per_minute is not None

    async def _share(self, principal: Principal) -> None:
        """Say what this replica spent of the key's limits, and hear what is left of them."""
        if not self._limited_by(principal):
            return
        meters = self._meters_of(principal)
        async with meters.sharing:  # else two might tell at once what one has spent, and hear levels out of order
            if self._store_is_late:
                return
            for what, bucket in (("requests", meters.requests), ("tokens", meters.tokens)):
                if bucket is not None and not await self._share_one(f"{principal.key_id}:{what}", bucket):
                    return

    async def _share_one(self, name: str, bucket: TokenBucket) -> bool:
        """False: the store is away, or keeps us waiting; what was spent is told another time."""
        told, bucket.spent = bucket.spent, 0.0
        try:
            async with asyncio.timeout(self._patience_s):
                level = await self._store.spend(name, told, bucket.per_minute, MAX_DEBT_S)
        except (StoreFailed, TimeoutError) as error:
            bucket.spent += told  # counted twice, if the store does it yet
            self._alone_until = time.monotonic() + ALONE_S if isinstance(error, TimeoutError) else 0.0
            log.warning("limits.not_shared", reason=str(error) or f"no answer within {self._patience_s:g} s")
            return False
        bucket.level = level - bucket.spent  # spent while the store was asked
        bucket.at = self._clock.now()
        return True

    def rate_headers(self, principal: Principal) -> tuple[tuple[bytes, bytes], ...]:
        """OpenAI's x-ratelimit-* headers; without a limit of its own, how much room the pool has."""
        meters = self._meters_of(principal)
        headers: list[tuple[bytes, bytes]] = []
        for name, bucket in ((b"requests", meters.requests), (b"tokens", meters.tokens)):
            if bucket is not None:
                headers.append((b"x-ratelimit-limit-" + name, b"%d" % bucket.per_minute))
                headers.append((b"x-ratelimit-remaining-" + name, b"%d" % max(0.0, bucket.level)))
                headers.append((b"x-ratelimit-reset-" + name, _duration(bucket.wait_s(bucket.per_minute)).encode()))
        return tuple(headers) or self._room_headers()

    def _room_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Of requests; looked at again after a moment, not for each answer."""
        now = self._clock.now()
        if self._room is not None and now - self._pool_seen_at >= ROOM_EVERY_S:
            limit, taken = self._room()
            left = max(0, limit - taken)
            self._pool_seen_at = now
            self._pool_headers = (
                (b"x-ratelimit-limit-requests", b"%d" % limit),
                (b"x-ratelimit-remaining-requests", b"%d" % left),
                (b"x-ratelimit-reset-requests", _duration(0.0 if left else ROOM_EVERY_S).encode()),
            )
        return self._pool_headers

    def reserve(self, principal: Principal, tokens: int) -> Reservation:
        """Take what a request is expected to cost; to be settled when it has ended. Raises RateLimited.

        One that costs more than a whole minute's worth passes when the bucket is full.
        """
        bucket = self._meters_of(principal).tokens
        if bucket is not None and (wait_s := bucket.wait_s(tokens)) > 0:
            raise self._limited("tokens", bucket, wait_s, principal)
        reservation = Reservation(bucket, tokens)
        self._tell(principal)
        return reservation

    def _count_request(self, principal: Principal) -> None:
        meters = self._meters_of(principal)
        for what, bucket in (("requests", meters.requests), ("tokens", meters.tokens)):
            if bucket is not None and (wait_s := bucket.wait_s(1)) > 0:
                raise self._limited(what, bucket, wait_s, principal)
        if meters.requests is not None:
            meters.requests.spend(1)

    def _limited(self, what: str, bucket: TokenBucket, wait_s: float, principal: Principal) -> RateLimited:
        return RateLimited(
            f"Rate limit reached for {what} per minute of the API key {principal.key_id}: "
            f"limit {bucket.per_minute:.0f}. Try again in {_duration(wait_s)}.",
            retry_after_s=wait_s,
            limits=self.rate_headers(principal),
            asker=principal.key_id,
        )

    def _meters_of(self, principal: Principal) -> Meters:
        now = self._clock.now()
        meters = self._meters.get(principal.key_id)
        if meters is None:
            meters = Meters.of(principal, now)
            if principal.key_id:
                self._meters[principal.key_id] = meters
        meters.refill(now)
        return meters

    async def _known_keys(self) -> dict[str, KeyRow]:
        """As ``_current_keys``, but what was read before is good enough while the store keeps people waiting."""
        known = self._keys
        if known is None or self._clock.now() - self._read_at < CACHED_S:
            return await self._current_keys(CACHED_S)
        refreshing = self._refreshing
        if refreshing is None or refreshing.done():
            refreshing = self._refreshing = asyncio.create_task(self._current_keys(CACHED_S))
            self._refresh_is_late = False
        if not self._refresh_is_late:
            done, _ = await asyncio.wait({refreshing}, timeout=self._patience_s)
            self._refresh_is_late = not done
        return known if self._keys is None else self._keys

    async def _current_keys(self, cached_s: float) -> dict[str, KeyRow]:
        """The keys by hash, as they were read at most ``cached_s`` ago. The first reader makes all others wait: no
        answer may come from keys not read yet.
        """
        if self._keys is not None and self._clock.now() - self._read_at < cached_s:
            return self._keys
        async with self._reading:
            if self._keys is None or self._clock.now() - self._read_at >= cached_s:
                self._keys = await self._read(self._keys)
                self._read_at = self._clock.now()
            return self._keys

    async def _read(self, known: dict[str, KeyRow] | None) -> dict[str, KeyRow]:
        try:
            records = await self._store.keys()
        except StoreFailed as error:
            if known is None:
                raise Unavailable(f"API keys cannot be read now: {error}") from None
            log.error("keys.read_failed", reason=str(error))  # those known stay good while the disk is away
            return known
        self._note_whether_any(bool(records), first=known is None)
        ids = {record.key_id for record in records}
        self._meters = {key_id: meters for key_id, meters in self._meters.items() if key_id in ids}
        return {record.secret_sha256: record for record in records}

    def _note_whether_any(self, any_keys: bool, *, first: bool) -> None:
        """Say so when the door stands open, and when the last key goes."""
        if any_keys:
            self._had_keys = True
        elif first and self._open:
            log.warning("keys.none", meaning="whoever works on this machine may use and administer this router")
        elif self._had_keys and self._keys:
            log.warning("keys.none_left", meaning="the last key is gone; nobody is let in until there is one again")


async def refuse_exposed_without_keys(store: Store, host: str) -> None:
    """Raises ConfigError for a host beyond loopback while no keys exist. ``allsorts serve`` asks before it starts."""
    if not is_loopback(host) and not await store.keys():
        raise ConfigError(
            f"refusing to listen on {host} without API keys: anyone there could use this pool. "
            "Make a key first: allsorts key create --name me --scopes serve,observe,admin"
        )


def _duration(seconds: float) -> str:
    """As OpenAI writes it: ``12ms``, ``1.2s``, ``6m0s``."""
    if seconds < 1.0:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60.0:
        return f"{seconds:.3g}s"
    return f"{int(seconds // 60)}m{int(seconds % 60)}s"


def _hash_of(authorization: str | None) -> str:
    """The hash of the bearer's key; a header that is none gives a hash no key has."""
    scheme, _, secret = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not secret or len(secret) > MAX_HEADER_CHARS:
        return ""
    return secret_hash(secret.strip())
