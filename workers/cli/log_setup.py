"""Logs of a command: structured lines on stderr, or in a file of bounded size."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

LOG_BYTES = 10 * 2**20
"""Of a log in its two files: when one is full it is put aside and a new one begun, and the one put aside before is
gone."""


def set_up_logging(level: str, file: Path | None = None, *, max_bytes: int = LOG_BYTES) -> None:
    """For people on a terminal, JSON elsewhere and in a ``file``, which takes what libraries log too and has
    ``max_bytes`` in all.

    Raises OSError when the file cannot be written.
    """
    renderer: Any = structlog.processors.JSONRenderer()
    if file is None and sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    number = logging.getLevelNamesMapping()[level.upper()]
    if file is not None:
        _to_file(file, number, max_bytes)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(number),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr) if file is None else structlog.stdlib.LoggerFactory(),
    )


def _to_file(file: Path, level: int, max_bytes: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handler = RotatingFileHandler(file, maxBytes=max_bytes // 2, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=level, force=True)
