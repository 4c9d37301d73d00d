"""The root of what goes wrong on a worker for a reason that people can act on."""


class WorkerError(Exception):
    """The message is one line: what, where, what to do. Commands print it and end; nothing else does."""
