"""Errors as an OpenAI client reads them: body, status and headers. The one place that translates them for HTTP."""

import math

import msgspec

from router.errors import AllsortsError, MethodNotAllowed, NotAuthenticated, RateLimited
from router.http.server.exchange import Headers

_UNEXPECTED = AllsortsError("The router failed to handle this request; its log has the details under this request id.")


def error_body(error: AllsortsError) -> bytes:
    """``{"error": {message, type, param, code}}``."""
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}
    )


def error_event(error: AllsortsError) -> bytes:
    """The same as a server-sent event, for a stream that is already under way."""
    return b"data: " + error_body(error) + b"\n\n"


def error_headers(error: AllsortsError) -> Headers:
    """Retry-After where trying again makes sense and it is known when, the caller's limits where they were reached."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retryable and (error.http_status in (429, 503) or error.retry_after_s is not None):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s or 1.0))))
    if error.http_status >= 500 and not error.retryable:
        headers.append((b"x-should-retry", b"false"))  # OpenAI's clients ask again after a 5xx unless told not to
    if isinstance(error, RateLimited):
        headers.extend(error.limits)
    if isinstance(error, NotAuthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="allsorts"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return headers


def unexpected() -> AllsortsError:
    """What a client hears of an error nobody foresaw: nothing of its insides."""
    return _UNEXPECTED
