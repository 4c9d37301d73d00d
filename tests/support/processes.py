"""Other processes, asked while they may end at any moment: one that is gone has no command line and no children."""

import psutil


def family_of(process_id: int) -> list[psutil.Process]:
    """The process and all that came from it; empty once it has ended."""
    try:
        process = psutil.Process(process_id)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def command_line(process: psutil.Process) -> str:
    """What it was started as, or calls itself since; empty when it has ended or may not be asked."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def name_of(process: psutil.Process) -> str:
    """The system's short name for it; empty when it has ended."""
    try:
        return process.name()
    except psutil.Error:
        return ""
