"""What a worker may say of one attempt: counts that can be true, and no more bytes than an answer may have. Pure."""

import sys

from protos.contract.stream import Accepted, Delta, TokenLogprob
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

DELTA_BYTES = 256
"""What a delta weighs in memory beside its text."""

LOGPROB_BYTES = 128
"""What one log-probability weighs beside its token's bytes."""


def most_prompt_tokens(request: InferenceRequest, continued_bytes: int = 0) -> int:
    """Tokens a prompt can have at most: a token has a byte at least, and the template adds a few."""
    template = TEMPLATE_TOKENS + MESSAGE_TOKENS * len(request.messages)
    given = len(request.prompt) if isinstance(request.prompt, tuple) else request.prompt_bytes
    return given + continued_bytes + template


def weight_of(delta: Delta) -> int:
    """Bytes that its output takes in memory for as long as the answer lasts; its own shell apart."""
    weight = sys.getsizeof(delta.text) + 4 * len(delta.token_ids)
    if delta.reasoning:
        weight += sys.getsizeof(delta.reasoning)
    if delta.logprobs:
        weight += sum(_logprob_weight(one) for one in delta.logprobs)
    return weight


class AnswerBounds:
    """The bounds of one attempt, and how much of them is used.

    ``token_budget``: output tokens asked for; ``prompt_tokens``: those its prompt can have; ``answer_bytes``: what its
    output may weigh.
    """

    def __init__(self, *, token_budget: int, prompt_tokens: int, answer_bytes: int) -> None:
        self.token_budget = token_budget
        self.tokens = 0
        self._prompt_tokens = prompt_tokens
        self._answer_bytes = answer_bytes
        self._characters = 0
        self._weight = 0

    def take(self, delta: Delta, weight: int) -> str:
        """Count a delta of this weight; what is wrong with it, and then nothing was counted. Empty: nothing is."""
        fault = self._fault(delta, weight)
        if not fault:
            self.tokens += delta.token_count
            self._characters += len(delta.text) + len(delta.reasoning)
            self._weight += weight
        return fault

    def fault_of_acceptance(self, accepted: Accepted) -> str:
        """What cannot be true of the prompt's counts; empty for nothing."""
        return self._fault_of_counts(accepted.prompt_tokens, accepted.cached_tokens)

    def _fault(self, delta: Delta, weight: int) -> str:
        tokens = self.tokens + delta.token_count
        if delta.position != self.tokens:
            return f"the worker spoke at token {delta.position}, expected {self.tokens}"
        if tokens > self.token_budget:
            return f"the worker sent more than the {self.token_budget} tokens it was asked for"
        if self._characters + len(delta.text) + len(delta.reasoning) > CHARACTERS_PER_TOKEN * tokens + TEXT_SLACK:
            return f"the worker sent more text than {tokens} tokens can have"
        if self._weight + weight > self._answer_bytes:
            return f"the worker sent an answer of more than the {self._answer_bytes} bytes one may have"
        if max(len(delta.token_ids), len(delta.logprobs)) > max(delta.token_count, 1) or delta.text_tokens > tokens:
            return f"the worker sent particulars of more tokens than the {tokens} it produced"
        if delta.logprobs and (fault := _fault_of_logprobs(delta.logprobs)):
            return fault
        usage = delta.usage
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
