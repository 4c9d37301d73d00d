"""Rule: beyond this machine a draft serves over mutual TLS, as itself alone, and only those that a router paired."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protos.contract.drafts import DraftContext, DraftProposal
from protos.contract.ids import WorkerId
from protos.contract.joining.join_token import parse_token
from protos.contract.worker import Hardware, Profile
from tests.support.tls_pool import Head, head
from workers.drafting.line import GrpcLine
from workers.drafting.link import DraftLink, DraftTls
from workers.drafting.listener import DraftListener, listen
from workers.drafting.room import Answer
from workers.drafting.service import DraftService
from workers.drafting.targets import PairedTargets
from workers.joining.join import Joined, join_fleet, renew

HERE = ("127.0.0.1",)
ASKED = DraftContext(request_id="r", epoch=1, position=1, token_ids=(7,), draft_length=1, tokenizer_fingerprint="f")


class Room:
    """Proposes the last token again."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}

    def room_for(self, model: str, quantization: str, tokenizer_fingerprint: str) -> "Room":
        return self

    def enter(self, target: str, answer: Answer) -> None:
        self.answers[target] = answer

    def tell(self, target: str, contexts: Sequence[DraftContext]) -> None:
        self.answers[target]([
            DraftProposal(request_id=one.request_id, epoch=one.epoch, position=one.position, token_ids=one.token_ids)
            for one in contexts
        ])  # fmt: skip

    def leave(self, target: str) -> None:
        del self.answers[target]


@dataclass
class Ears:
    """What a line heard."""

    proposals: list[DraftProposal] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    stands: threading.Event = field(default_factory=threading.Event)
    heard: threading.Event = field(default_factory=threading.Event)

    def opened(self) -> None:
        self.stands.set()

    def arrived(self, proposals: Sequence[DraftProposal]) -> None:
        self.proposals += proposals
        self.heard.set()

    def broken(self, reason: str) -> None:
        self.reasons.append(reason)
        self.heard.set()


async def joined(pool: Head, state: Path, node: str, serves_at: tuple[str, ...] = ()) -> Joined:
    profile = Profile(node=node, hardware=Hardware(kind="cpu", name="x"), engine="llama.cpp")
    token = parse_token(await pool.token())
    return await join_fleet(pool.enrol_address, token, profile, state, serves_at=serves_at)


def tls(one: Joined) -> DraftTls:
    files = one.files
    return DraftTls(authority=files.authority, certificate=files.certificate, key=files.key)


@asynccontextmanager
async def listening(who: Joined, *paired: Joined) -> AsyncIterator[DraftListener]:
    targets = PairedTargets()
    targets.tell("router-0", [one.membership.worker_id for one in paired])
    room = Room()
    one = await listen(DraftService(lambda: room, targets, tls=True), "127.0.0.1:0", tls(who), seen_from="127.0.0.1:1")
    try:
        yield one
    finally:
        await one.stop()
    assert not room.answers


@contextmanager
def line(to: DraftListener, draft: Joined, asks: Joined | None) -> Iterator[tuple[GrpcLine, Ears]]:
    ears = Ears()
    link = DraftLink(
        address=to.address, draft_worker_id=WorkerId(draft.membership.worker_id), own_worker_id=WorkerId("whoever"),
        tokenizer_fingerprint="f", tls=tls(asks) if asks is not None else None,
    )  # fmt: skip
    one = GrpcLine(link, ears)
    try:
        yield one, ears
    finally:
        one.close()


async def why_not(to: DraftListener, draft: Joined, asks: Joined | None) -> str:
    """What a target hears that is not let in, or does not let itself in."""
    with line(to, draft, asks) as (_, ears):
        assert await wait(ears.heard)
        assert not ears.stands.is_set()
        return ears.reasons[0]


async def wait(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, 20.0)


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Head]:
    async with head(tmp_path / "head") as one:
        yield one


async def test_only_paired_targets_are_answered_and_only_the_draft_itself_answers(pool: Head, tmp_path: Path) -> None:
    """An enrolled worker that nobody paired, one without a certificate, a worker that may not serve, another draft in
    its place: each pair of words says what was wrong. A renewed certificate serves as the first did.
    """
    draft = await joined(pool, tmp_path / "d", "draft", HERE)
    other = await joined(pool, tmp_path / "e", "other-draft", HERE)
    target = await joined(pool, tmp_path / "t", "target")
    stranger = await joined(pool, tmp_path / "s", "stranger")
    for _ in range(2):
        async with listening(draft, target) as place:
            with line(place, draft, target) as (one, ears):
                assert await wait(ears.stands), ears.reasons
                one.send([ASKED])
                assert await wait(ears.heard)
                assert ears.proposals[0].token_ids == (7,)
            assert "no router has paired" in await why_not(place, draft, stranger)
            assert "not reached" in await why_not(place, draft, None)
        await renew(draft.files)
    async with listening(other, target) as place:
        assert "not reached" in await why_not(place, draft, target)
    async with listening(target, target) as place:  # its certificate asks and does not serve
        assert "not reached" in await why_not(place, target, target)
