"""What the client already has, so that another worker can go on where the last one stopped. Pure.

A worker releases text in whole characters and holds back what may become a stop string, so its tokens run ahead
of its text. Only tokens whose text was released count as sent: the next worker produces the others again. Thus
no token is lost and none doubled, also in the middle of a character or of a stop string.
"""

from array import array
from dataclasses import dataclass, field

from protos.contract.request import ContinueFrom
from protos.contract.stream import Delta, TokenLogprob
from router.domain.answer import Continuation

JOINED = 64
"""Pieces of text that are made one: a piece of a few letters takes ten times its size."""


def _ids() -> "array[int]":
    return array("I")  # four bytes each: an answer's ids are kept for as long as it lasts


@dataclass(slots=True)
class Transcript:
    """The output of all attempts so far, as the client received it; ``text`` as the model wrote it."""

    text: list[str] = field(default_factory=list)
    settled_ids: "array[int]" = field(default_factory=_ids)  # of earlier attempts
    settled_tokens: int = 0  # of earlier attempts, charged to the client
    moves: list[Continuation] = field(default_factory=list)
    fingerprint: str = ""  # tokenizer of the current attempt
    marked: bool = False  # some of it is marked as thoughts or calls: who goes on must read such marks
    unreadable: bool = False  # calls are with the client whose text nobody told: nobody can go on
    _ids: "array[int]" = field(default_factory=_ids)  # of the current attempt
    _ids_complete: bool = True
    _tokens: int = 0  # of the current attempt
    _loose: int = 0  # pieces of text at its end that were not joined
    _released: int = 0  # of the current attempt, text with the client
    _held_logprobs: list[TokenLogprob] = field(default_factory=list)

    def absorb(self, delta: Delta) -> tuple[TokenLogprob, ...]:
        """Add a delta. Returns the log-probabilities of tokens whose text is now with the client."""
        if delta.raw:
            self._keep(delta.raw)
            self.marked = True
        elif delta.tool_calls:
            self.unreadable = True
        elif delta.text:
            self._keep(delta.text)
        self._tokens += delta.token_count
        if len(delta.token_ids) == delta.token_count:
            self._ids.extend(delta.token_ids)
        else:
            self._ids_complete = False
        self._held_logprobs.extend(delta.logprobs)
        released = self._tokens if delta.finish_reason is not None else delta.text_tokens
        newly = max(0, released - self._released)
        self._released = max(self._released, released)
        due, self._held_logprobs = self._held_logprobs[:newly], self._held_logprobs[newly:]
        return tuple(due)

    def absorb_plain(self, delta: Delta) -> None:
        """Add a delta that holds text alone, where no log-probabilities are held back: as ``absorb``, for less."""
        if delta.text:
            self._keep(delta.text)
        self._tokens += delta.token_count
        if len(delta.token_ids) == delta.token_count:
            self._ids.extend(delta.token_ids)
        else:
            self._ids_complete = False
        if delta.text_tokens > self._released:
            self._released = delta.text_tokens

    def _keep(self, text: str) -> None:
        self.text.append(text)
        self._loose += 1
        if self._loose == JOINED:
            self.text[-JOINED:] = ["".join(self.text[-JOINED:])]
            self._loose = 0

    @property
    def holds_back(self) -> bool:
        """Whether log-probabilities wait for their text."""
        return bool(self._held_logprobs)

    @property
    def output_tokens(self) -> int:
        """Tokens the client has been sent, over all attempts."""
        return self.settled_tokens + self._released

    @property
    def started(self) -> bool:
        """Whether the client has any of the answer."""
        return bool(self.settled_tokens or self._released or self.text)

    def settle(self) -> None:
        """The current attempt is over and another will go on: keep what was released, forget the rest."""
        if self._ids_complete:
            self.settled_ids.extend(self._ids[: self._released])
        self.settled_tokens += self._released
        self._ids = _ids()
        self._held_logprobs.clear()
        self._tokens = self._released = 0

    def resume(self) -> ContinueFrom | None:
        """Where the next attempt starts; None when the client has nothing yet. Call after ``settle``."""
        if not self.started:
            return None
        exact = self._ids_complete and len(self.settled_ids) == self.settled_tokens
        return ContinueFrom(
            text="".join(self.text),
            token_ids=tuple(self.settled_ids) if exact else (),
            tokenizer_fingerprint=self.fingerprint if exact else "",
            output_tokens=self.settled_tokens,
        )
