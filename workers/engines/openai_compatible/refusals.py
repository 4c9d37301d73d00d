"""A server's no, in the contract's words. Pure."""

import json

from protos.contract.request import Job
from protos.contract.stream import RefusalCode
from workers.engines.base import Refused
from workers.engines.openai_compatible.answers.chunks import count_of, error_line
from workers.engines.openai_compatible.upstream import Upstream

TOKENS_PER_BYTE = 0.3
"""Rough, for English and code; replaced by the server's own counts at the end of each request."""

MAX_ERROR_BYTES = 64 * 1024

CONTEXT_PHRASES = ("context", "too long", "maximum length", "max_model_len", "exceed")
BUSY = frozenset({429, 503})


def estimated_prompt_tokens(job: Job) -> int:
    """About how many tokens the prompt has."""
    if not isinstance(job.prompt, str):
        return len(job.prompt)
    continued = job.continue_from.text if job.continue_from else ""
    texts = [one.text for one in job.messages] or [job.prompt]
    return max(
        1, int(TOKENS_PER_BYTE * sum(len(text.encode()) for text in (*texts, continued))) + 4 * len(job.messages)
    )


def refusal(status: int, body: str, upstream: Upstream, prompt_tokens: int) -> Refused:
    """A server's 4xx or 5xx as the reason why the job is not taken."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = {"error": " ".join(body.split())[:200] or f"status {status}"}
    line = error_line(parsed)
    if status in (400, 413, 422) and any(phrase in line.lower() for phrase in CONTEXT_PHRASES):
        # llama-server tells its counts; elsewhere they are in the words alone.
        error = parsed.get("error") if isinstance(parsed, dict) else None
        told = error if isinstance(error, dict) else {}
        return Refused(
            RefusalCode.CONTEXT_LENGTH,
            line,
            prompt_tokens=count_of(told.get("n_prompt_tokens")) or prompt_tokens,
            context_tokens=count_of(told.get("n_ctx")) or upstream.loaded.context_tokens,
        )
    if status in (400, 413, 422):
        return Refused(RefusalCode.INVALID, line)
    if status == 404:
        return Refused(RefusalCode.MODEL_NOT_LOADED, line)
    if status in BUSY:
        return Refused(RefusalCode.BUSY, line)
    return Refused(RefusalCode.ENGINE_FAILED, f"the server at {upstream.base_url} answered {status}: {line}")
