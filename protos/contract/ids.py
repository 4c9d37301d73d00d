"""Names that must not be mixed up, as distinct types."""

from typing import NewType

RequestId = NewType("RequestId", str)
"""The client's unit: one HTTP request. Also the ``x-request-id`` header."""

WorkerId = NewType("WorkerId", str)
"""One worker for as long as its enrolment lasts; survives restarts of the process."""

AttemptKey = tuple[RequestId, int]
"""One attempt at one request on one worker: the request's id, and which attempt it is, from 1."""
