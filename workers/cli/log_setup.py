"""Logs of a command: structured lines on stderr."""

import logging
import sys
from typing import Any

import structlog

from protos.contract.printable import printable_event


def set_up_logging(level: str) -> None:
    """For people on a terminal, JSON elsewhere."""
    renderers: tuple[Any, ...] = (
        (printable_event, structlog.dev.ConsoleRenderer())
        if sys.stderr.isatty()
        else (structlog.processors.JSONRenderer(),)
    )
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *renderers,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
