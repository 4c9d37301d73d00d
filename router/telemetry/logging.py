"""Structured logs: one JSON line per event on stderr, or readable lines on a terminal; so many of a kind, and no more
(``log_limit``).
"""

import logging
import sys

import structlog

from protos.contract.printable import printable_event
from router.telemetry.log_limit import LogLimit


def configure_logging(level: str = "info") -> None:
    """Set structlog up once per process. ``level`` is debug, info, warning or error."""
    renderers: tuple[structlog.types.Processor, ...] = (
        (printable_event, structlog.dev.ConsoleRenderer(colors=True))
        if sys.stderr.isatty()
        else (structlog.processors.JSONRenderer(),)
    )
    structlog.configure(
        processors=[
            LogLimit(),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
