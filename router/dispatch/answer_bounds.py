"""What a worker may say of one attempt: counts that can be true, and no more bytes than an answer may have. Pure."""

import sys

from protos.contract.stream import Accepted, Delta, TokenLogprob, Usage
from router.domain.request import InferenceRequest

CHARACTERS_PER_TOKEN = 1024
TEXT_SLACK = 4096
"""An answer's text may have so many characters for each of its tokens, and so many beside. That is far more than the
longest words of any vocabulary, and bounds what a worker can make the router hold.
"""

USAGE_SLACK = 64
"""Servers differ in what they count: end markers, or what a stop string cut off."""

MAX_ALTERNATIVES = 64
"""Alternative tokens beside a token's log-probability."""

MAX_TOKEN_BYTES = 1024
"""Of one token in a log-probability."""

TEMPLATE_TOKENS = 1024
MESSAGE_TOKENS = 64
"""What a chat template adds to a prompt, and to each message, at most. Longest known: a default system prompt with
dates and rules, some hundreds. The allowance also takes the few characters that a tokenizer writes as several (NFC).
"""

TOOL_TOKENS = 512
"""What a template adds to a tool's JSON at most, and once for all of them."""

IMAGE_TOKENS = 16_384
"""The largest images of the largest models (Qwen2.5-VL's bound)."""

MAX_VECTOR = 65_536
"""Numbers in one embedding."""

DELTA_BYTES = 256
"""What a delta weighs in memory beside its text."""

CALL_BYTES = 256
"""What a piece of a call weighs beside its arguments."""

NUMBER_BYTES = 32
"""What a number of a vector weighs."""

LOGPROB_BYTES = 128
"""What one log-probability weighs beside its token's bytes."""


def most_prompt_tokens(request: InferenceRequest, continued_bytes: int = 0) -> int:
    """Tokens a prompt can have at most: a token has a byte at least, and the template adds a few."""
    template = TEMPLATE_TOKENS + MESSAGE_TOKENS * len(request.messages) + IMAGE_TOKENS * request.images
    if request.tooling is not None:
        template += TOOL_TOKENS * (1 + len(request.tooling.tools))
    if request.embedding is not None:
        template += MESSAGE_TOKENS * len(request.embedding.inputs)
    given = len(request.prompt) if isinstance(request.prompt, tuple) else request.prompt_bytes
    return given + continued_bytes + template


def weight_of(delta: Delta) -> int:
    """Bytes that its output takes in memory for as long as the answer lasts; its own shell apart."""
    weight = sys.getsizeof(delta.text) + 4 * len(delta.token_ids)
    if delta.reasoning:
        weight += sys.getsizeof(delta.reasoning)
    if delta.logprobs:
        weight += sum(_logprob_weight(one) for one in delta.logprobs)
    if delta.raw or delta.tool_calls or delta.echo or delta.vectors:
        weight += sys.getsizeof(delta.raw) + sys.getsizeof(delta.echo)
        weight += sum(CALL_BYTES + sys.getsizeof(one.arguments) for one in delta.tool_calls)
        weight += sum(_logprob_weight(one) for one in delta.echo_logprobs)
        weight += sum(NUMBER_BYTES * len(one) for one in delta.vectors)
    return weight


def characters_of(delta: Delta) -> int:
    """Of everything that it says, the prompt's echo apart; thoughts and calls count as such and as written."""
    said = len(delta.text) + len(delta.reasoning)
    if delta.raw or delta.tool_calls:
        said += len(delta.raw) + sum(len(one.arguments) + len(one.name) + len(one.id) for one in delta.tool_calls)
    return said


class AnswerBounds:
    """The bounds of one attempt, and how much of them is used.

    ``token_budget``: output tokens asked for; ``prompt_tokens``: those its prompt can have; ``answer_bytes``: what its
    output may weigh; ``vectors``: how many were asked for.
    """

    def __init__(self, *, token_budget: int, prompt_tokens: int, answer_bytes: int, vectors: int = 0) -> None:
        self.token_budget = token_budget
        self.tokens = 0
        self._prompt_tokens = prompt_tokens
        self._answer_bytes = answer_bytes
        self._vectors = vectors
        self._characters = 0
        self._weight = 0

    def take(self, delta: Delta, weight: int) -> str:
        """Count a delta of this weight; what is wrong with it, and then nothing was counted. Empty: nothing is."""
        fault = self._fault(delta, weight)
        if not fault:
            self.tokens += delta.token_count
            self._characters += characters_of(delta)
            self._weight += weight
        return fault

    def fits_plain(self, delta: Delta, weight: int) -> bool:
        """Whether a delta that says text alone keeps all bounds: as ``take``, for less. False tells no reason."""
        tokens = self.tokens + delta.token_count
        return (
            delta.position == self.tokens
            and tokens <= self.token_budget
            and self._characters + len(delta.text) <= CHARACTERS_PER_TOKEN * tokens + TEXT_SLACK
            and self._weight + weight <= self._answer_bytes
            and len(delta.token_ids) <= max(delta.token_count, 1)
            and delta.text_tokens <= tokens
        )

    def count_plain(self, delta: Delta, weight: int) -> None:
        """Count a delta that fits."""
        self.tokens += delta.token_count
        self._characters += len(delta.text)
        self._weight += weight

    def fault_of_acceptance(self, accepted: Accepted) -> str:
        """What cannot be true of the prompt's counts; empty for nothing."""
        return self._fault_of_counts(accepted.prompt_tokens, accepted.cached_tokens)

    def _fault(self, delta: Delta, weight: int) -> str:
        tokens = self.tokens + delta.token_count
        if delta.position != self.tokens:
            return f"the worker spoke at token {delta.position}, expected {self.tokens}"
        if tokens > self.token_budget:
            return f"the worker sent more than the {self.token_budget} tokens it was asked for"
        if self._characters + characters_of(delta) > CHARACTERS_PER_TOKEN * tokens + TEXT_SLACK:
            return f"the worker sent more text than {tokens} tokens can have"
        if self._weight + weight > self._answer_bytes:
            return f"the worker sent an answer of more than the {self._answer_bytes} bytes one may have"
        if max(len(delta.token_ids), len(delta.logprobs)) > max(delta.token_count, 1) or delta.text_tokens > tokens:
            return f"the worker sent particulars of more tokens than the {tokens} it produced"
        if delta.logprobs and (fault := _fault_of_logprobs(delta.logprobs)):
            return fault
        if (delta.echo_logprobs or delta.vectors) and (fault := self._fault_of_more(delta)):
            return fault
        return self._fault_of_usage(delta.usage)

    def _fault_of_more(self, delta: Delta) -> str:
        if len(delta.echo_logprobs) > self._prompt_tokens:
            return f"the worker repeats a prompt of more than {self._prompt_tokens} tokens"
        if len(delta.vectors) > self._vectors or any(len(one) > MAX_VECTOR for one in delta.vectors):
            return f"the worker sent more than {self._vectors} vectors, or one of more than {MAX_VECTOR} numbers"
        return _fault_of_logprobs(delta.echo_logprobs)

    def _fault_of_usage(self, usage: Usage | None) -> str:
        if usage is None:
            return ""
        if usage.completion_tokens > self.token_budget + USAGE_SLACK:
            return f"the worker charges for more than the {self.token_budget} tokens it was asked for"
        return self._fault_of_counts(usage.prompt_tokens, usage.cached_tokens)

    def _fault_of_counts(self, prompt_tokens: int, cached_tokens: int) -> str:
        if prompt_tokens > self._prompt_tokens:
            return (
                f"the worker counts {prompt_tokens} prompt tokens where {self._prompt_tokens} are the most there can be"
            )
        if cached_tokens > max(prompt_tokens, self._prompt_tokens if not prompt_tokens else 0):
            return f"the worker found {cached_tokens} tokens in its cache of a prompt of {prompt_tokens}"
        return ""


def _fault_of_logprobs(logprobs: tuple[TokenLogprob, ...]) -> str:
    if any(len(one.top) > MAX_ALTERNATIVES for one in logprobs):
        return f"the worker sent more than {MAX_ALTERNATIVES} alternatives of a token"
    if any(
        len(one.token) > MAX_TOKEN_BYTES or any(len(top.token) > MAX_TOKEN_BYTES for top in one.top) for one in logprobs
    ):
        return f"the worker sent a token of more than {MAX_TOKEN_BYTES} bytes"
    return ""


def _logprob_weight(one: TokenLogprob) -> int:
    return LOGPROB_BYTES * (1 + len(one.top)) + len(one.token) + sum(len(top.token) for top in one.top)
