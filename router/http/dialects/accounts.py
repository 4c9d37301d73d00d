"""What is known of an HTTP request so far: what its metrics, its caller's limits and its usage are told at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos.contract.ids import RequestId
from protos.contract.stream import Usage
from router.domain.answer import AnswerHead, Chunk
from router.domain.principal import Principal
from router.http.auth.meters import Reservation
from router.http.dialects.dialect import Turn


@dataclass(slots=True)
class Progress:
    """By the number of each answer, where there are several."""

    request_id: RequestId
    arrived_at: float
    principal: Principal
    model: str = "unknown"
    head: AnswerHead | None = None  # of the first that was accepted
    heads: Mapping[int, AnswerHead] = field(default_factory=dict)
    prompt_of: tuple[int, ...] = (0,)
    first_token_at: float | None = None
    tokens: list[int] = field(default_factory=list)  # of each answer, so far
    ended: dict[int, Usage] = field(default_factory=dict)
    usage: Usage | None = None
    reservation: Reservation | None = None  # of the caller's tokens per minute
    turn: Turn | None = None  # of a conversation that is kept here
    broke: bool = False  # after the status line was out

    def usage_of(self, index: int, last: Chunk, heads: Mapping[int, AnswerHead]) -> Usage:
        """Of an answer that ends with ``last``: the worker's counts, or ours where it tells none."""
        counted = Usage(
            prompt_tokens=heads[index].prompt_tokens,
            completion_tokens=self.tokens[index] + last.token_count,
        )
        self.ended[index] = last.usage or counted
        return self.ended[index]


def total_usage(progress: Progress, heads: Mapping[int, AnswerHead]) -> Usage:
    """Of all answers; a prompt counts once however many choices answer it."""
    prompts: dict[int, Usage] = {}
    completion = 0
    for index, head in sorted(heads.items()):
        one = progress.ended.get(index) or Usage(
            prompt_tokens=head.prompt_tokens, completion_tokens=progress.tokens[index]
        )
        prompts.setdefault(progress.prompt_of[index], one)
        completion += one.completion_tokens
    return Usage(
        prompt_tokens=sum(one.prompt_tokens for one in prompts.values()),
        completion_tokens=completion,
        cached_tokens=sum(one.cached_tokens for one in prompts.values()),
    )
