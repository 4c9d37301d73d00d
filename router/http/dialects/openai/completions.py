"""``POST /v1/completions``: one prompt or many, with or without their echo."""

from collections.abc import Sequence

from protos.contract.stream import Usage
from router.domain.answer import Chunk
from router.errors import InvalidRequest
from router.http.dialects.collected import Collected
from router.http.dialects.dialect import Told
from router.http.dialects.openai.answers import Completion, CompletionChoice, CompletionPiece, finish_of, usage_body
from router.http.dialects.openai.endpoint import OpenAIEndpoint
from router.http.dialects.openai.fields import StreamOptions
from router.http.dialects.openai.logprobs import CompletionLogprobs, CompletionOffsets
from router.http.dialects.openai.sampling import check_stream_options, common_wishes, sampling_of, unset_of
from router.http.dialects.openai.schema import CompletionRequest
from router.http.dialects.openai.sse import EventFrame, encode
from router.http.dialects.openai.unsupported import refuse_unsupported
from router.http.dialects.shared.disclosure import disclosure
from router.http.dialects.shared.wish import Prompt, Wish

DEFAULT_MAX_TOKENS = 16
"""OpenAI's for this endpoint: unlike a chat's, a short answer."""


def wish_of(body: CompletionRequest) -> Wish:
    """Rules between fields are checked here. Raises InvalidRequest."""
    refuse_unsupported(body)
    check_stream_options(body)
    limit = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if limit == 0 and not body.echo:
        raise InvalidRequest("'max_tokens' 0 needs 'echo': nothing would be answered", param="max_tokens")
    if body.best_of not in (None, body.n or 1):
        raise InvalidRequest("'best_of' above 'n' is not served: answers are not ranked", param="best_of")
    return Wish(
        model=body.model,
        prompts=_prompts(body.prompt),
        sampling=sampling_of(body, max_tokens=limit, logprobs=_logprobs(body), echo=bool(body.echo)),
        unset=unset_of(body, limit),
        **common_wishes(body),
    )


def _logprobs(body: CompletionRequest) -> int | None:
    """A number of rivals as at OpenAI; a flag, as llama.cpp's server takes it, with ``top_logprobs`` beside it."""
    if isinstance(body.logprobs, bool) or body.logprobs is None:
        return body.top_logprobs or 0 if body.logprobs else None
    return body.logprobs


def _prompts(prompt: str | list[int | str | list[int]]) -> tuple[Prompt, ...]:
    """One text, one prompt of token ids, or a list of either."""
    if isinstance(prompt, str):
        return (prompt,)
    ids = [one for one in prompt if isinstance(one, int)]
    if len(ids) == len(prompt):
        return (tuple(ids),)
    if ids:
        raise InvalidRequest("Invalid value for 'prompt': token ids and texts do not mix", param="prompt")
    prompts: list[Prompt] = []
    for one in prompt:
        if isinstance(one, list):
            if not one:
                raise InvalidRequest("Invalid value for 'prompt': no token ids in it", param="prompt")
            prompts.append(tuple(one))
        elif isinstance(one, str):
            prompts.append(one)
    return tuple(prompts)


class CompletionWriter:
    """See ``Writer``."""

    def __init__(self, told: Told, options: StreamOptions | None) -> None:
        self._told = told
        self._frame = EventFrame(told, b"text_completion", options)
        self._offsets = [CompletionOffsets() for _ in told.prompt_of]
        self._opens = [self._frame.base + b'[{"index":%d,"text":' % index for index in range(len(told.prompt_of))]
        self._middle = b',"logprobs":null,"finish_reason":null}]'
        self._end = self._middle + self._frame.plain if self._frame.plain else b""

    def opening(self) -> bytes:
        """A completion has no role."""
        return b""

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        """The prompt first, where it is repeated."""
        if self._end and chunk.text and not (chunk.echo or chunk.logprobs or chunk.echo_logprobs):
            return b"".join((self._opens[index], encode(chunk.text), self._end))  # nearly every one
        text = chunk.echo + chunk.text
        if chunk.logprobs or chunk.echo_logprobs:
            shaped = self._offsets[index].take(chunk.logprobs, echo=chunk.echo_logprobs)
            piece = CompletionPiece(index=index, text=text, logprobs=shaped, finish_reason=None)
            return self._frame.base + encode([piece]) + self._frame.after(chunk)
        if not text:
            return b""
        return b"".join((self._opens[index], encode(text), self._middle, self._frame.after(chunk)))

    def ending(self, index: int, chunk: Chunk, usage: Usage) -> bytes:  # noqa: ARG002 - as every writer
        """The finish reason with what we disclose."""
        assert chunk.finish_reason is not None
        piece = CompletionPiece(index=index, text="", logprobs=None, finish_reason=finish_of(chunk.finish_reason))
        disclosed = disclosure(self._told.head, chunk.continuations, self._told.ttft_s())
        return self.chunk(index, chunk) + self._frame.last(encode([piece]), disclosed, Chunk())

    def closing(self, usage: Usage) -> bytes:
        """The usage if asked for, and the end of the stream."""
        return self._frame.closing(usage)

    def whole(self, answers: Sequence[Collected], usage: Usage) -> bytes:
        """A ``text_completion``."""
        return encode(
            Completion(
                id=self._told.request_id,
                created=self._told.created,
                model=self._told.model,
                choices=[_choice(index, answer) for index, answer in enumerate(answers)],
                usage=usage_body(usage),
                allsorts=disclosure(answers[0].head, answers[0].continuations),
            )
        )


def _choice(index: int, answer: Collected) -> CompletionChoice:
    shaped: CompletionLogprobs | None = None
    if answer.logprobs or answer.echo_logprobs:
        shaped = CompletionOffsets().take(tuple(answer.logprobs), echo=answer.echo_logprobs)
    return CompletionChoice(
        index=index,
        text=answer.echo + answer.text,
        logprobs=shaped,
        finish_reason=finish_of(answer.finish_reason),
    )


def openai_completions(*, strict: bool) -> OpenAIEndpoint[CompletionRequest]:
    """The dialect of this endpoint."""
    return OpenAIEndpoint(
        "openai.completions",
        id_prefix="cmpl",
        body=CompletionRequest,
        wish_of=wish_of,
        writing=CompletionWriter,
        strict=strict,
    )
