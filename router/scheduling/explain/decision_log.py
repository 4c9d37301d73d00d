"""Decision records on disk: one JSON object a line, appended by a thread of its own, as ``allsorts replay`` reads them.

Records are worth less than requests: a disk that is full or gone costs lines, which are counted, and nothing else.
"""

import os
import queue
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import structlog

from router.scheduling.explain.decision_files import turned_over

log = structlog.get_logger()

LIMIT_BYTES = 64 * 2**20
"""Of both files together: at half of it the file becomes ``<name>.1`` and a new one begins."""

WAITING_LIMIT = 4096
"""Lines waiting for the disk; beyond it the newest is lost."""

LAST_LINES_S = 2.0

LONGEST_LINE = 4 * 2**20
"""Bytes looked at for the end of the last whole line, when a file is gone on with."""


class RecordLog:
    """Takes lines at once and writes them in order. ``lost`` hears of each line that will never be there."""

    def __init__(self, path: Path, *, lost: Callable[[], None] = lambda: None, limit_bytes: int = LIMIT_BYTES) -> None:
        self._path = path
        self._lost = lost
        self._limit_bytes = limit_bytes
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_LIMIT)
        self._file: BinaryIO | None = None
        self._size = 0
        self._failing = False
        self._thread = threading.Thread(target=self._write_all, name="record log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Queue one line, without its line break. Never waits, never raises."""
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._lost()

    def close(self, within_s: float = LAST_LINES_S) -> None:
        """Write what waits, for at most so long."""
        try:
            self._waiting.put(None, timeout=within_s)
        except queue.Full:
            return
        self._thread.join(within_s)

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._write(line + b"\n")
            except OSError as error:
                self._lost()
                if not self._failing:
                    log.warning("records.lost", file=str(self._path), reason=error.strerror or str(error))
                self._failing = True
            else:
                if self._failing:
                    log.info("records.kept_again", file=str(self._path))
                self._failing = False
        if self._file is not None:
            self._file.close()

    def _write(self, line: bytes) -> None:
        file = self._open() if self._file is None else self._file
        if self._size + len(line) > self._limit_bytes // 2 and self._size > 0:
            file = self._turn_over(file)
        try:
            written = file.write(line)
            if written != len(line):  # an unbuffered file may take a part: the disk is full
                raise OSError(None, "the disk took a part of the line")
        except OSError:
            os.ftruncate(file.fileno(), self._size)  # no half a line for replay to stumble over
            raise
        self._size += len(line)

    def _open(self) -> BinaryIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._size = os.fstat(descriptor).st_size
        self._cut_half_line(descriptor)
        return self._file

    def _cut_half_line(self, descriptor: int) -> None:
        """A router that was killed, or a machine that went down, may have left half a line at the end."""
        if self._size == 0 or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        with self._path.open("rb") as file:
            start = max(0, self._size - LONGEST_LINE)
            file.seek(start)
            end = file.read()
        whole = end.rfind(b"\n") + 1
        if whole < len(end) and (whole or start == 0):
            self._size = start + whole
            os.ftruncate(descriptor, self._size)

    def _turn_over(self, file: BinaryIO) -> BinaryIO:
        file.close()
        self._file = None
        self._path.replace(turned_over(self._path))
        return self._open()
