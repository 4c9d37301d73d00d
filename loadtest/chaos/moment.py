"""The moment to strike, and whom: read off what clients have heard, so that it comes on any machine. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadtest.chaos.streams import Stream

NEWCOMER_TOKENS = 3
"""A newcomer's answer; those of the streams that are to be struck are longer."""


class Moment(StrEnum):
    """Where in its answer a stream is when its worker is struck."""

    PREFILL = "before the first word"  # accepted already
    MID_STREAM = "in mid-answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What clients see of one worker."""

    prefilling: int = 0  # accepted, and no word yet
    decoding: int = 0  # in the middle of the answer

    def at(self, moment: Moment) -> int:
        """Streams that are there."""
        return self.prefilling if moment is Moment.PREFILL else self.decoding

    def __str__(self) -> str:
        return f"{self.prefilling} before the first word, {self.decoding} in mid-answer"


def seen(streams: Sequence[Stream], worker: str) -> Seen:
    """Count the streams that began there."""
    there = [one for one in streams if one.worker == worker and not is_newcomer(one)]
    return Seen(prefilling=sum(one.prefilling for one in there), decoding=sum(one.decoding for one in there))


def newcomers_go_to(streams: Sequence[Stream], model: str, count: int) -> str:
    """The worker that the last ``count`` of a model's newcomers went to, if all to one; "" otherwise."""
    went = [one.worker for one in streams if is_newcomer(one) and one.model == model and one.worker][-count:]
    return went[0] if len(went) == count and len(set(went)) == 1 else ""


def is_newcomer(stream: Stream) -> bool:
    """Short, and sent beside the streams that are to be struck."""
    return stream.max_tokens == NEWCOMER_TOKENS


def choose(streams: Sequence[Stream], names: Sequence[str], moment: Moment, least: int) -> str:
    """Of these workers the one with the most streams at that moment; "" when it has fewer than ``least``."""
    there: Mapping[str, int] = {name: seen(streams, name).at(moment) for name in names}
    most = max(there, key=lambda name: there[name])
    return most if there[most] >= least else ""
