"""Being let into a fleet by the configuration alone, with nobody there to ask: a worker that something else started.

``WorkerConfig.enrol`` says where, ``token`` is good for one key; afterwards the key is enough, as with every join.
"""

import asyncio
import time
from pathlib import Path

import structlog

from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Profile
from workers.config import WorkerConfig
from workers.joining.home import Home
from workers.joining.join import Joined, join_fleet
from workers.joining.membership_files import MembershipFiles
from workers.joining.pinning import Unreachable
from workers.session.enrolment import EnrolFailed

log = structlog.get_logger(__name__)

PATIENCE_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 5.0


async def let_in(config: WorkerConfig, profile: Profile, *, patience_s: float = PATIENCE_S) -> Joined:
    """The token, and where it is worth nothing any more, the key of an earlier time. A router that is away is waited
    for. Raises EnrolFailed, NotTheRouter, Unreachable, BadToken, OSError: each one clear line.
    """
    until, wait_s = time.monotonic() + patience_s, FIRST_WAIT_S
    while True:
        try:
            return await _once(config, profile)
        except (EnrolFailed, Unreachable) as error:
            gone = isinstance(error, EnrolFailed) and not error.retryable
            if gone or time.monotonic() + wait_s > until:
                raise
            log.info("enrolment.waits", reason=str(error), again_in_s=wait_s)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)


async def _once(config: WorkerConfig, profile: Profile) -> Joined:
    state = Home.of(Path(config.state_dir)).state
    token = parse_token(config.token) if config.token else None
    try:
        return await join_fleet(config.enrol, token, profile, state)
    except EnrolFailed as error:
        known = MembershipFiles.find(state, config.enrol, profile.node)
        if error.retryable or token is None or known is None:
            raise
        log.info("enrolment.by_key", reason=str(error))
    return await join_fleet(config.enrol, None, profile, state)
