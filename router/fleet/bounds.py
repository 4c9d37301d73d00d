"""What a worker may say about itself: sizes and numbers that the router is willing to believe.

A worker that steps over a bound is broken or hostile; its session ends, nothing else does. The bounds are far above
what an honest worker says.
"""

import math
from typing import Any

from google.protobuf.message import Message

from protos.allsorts.v1 import fleet_pb2 as pb

MAX_MODELS = 256  # on one worker
MAX_TEXT = 4096  # of any text field; errors of engines can be long
MAX_NAME = 200  # of node, worker, model and quantization
MAX_ENTRIES = 64  # of labels, hardware details
MAX_SAMPLES = 4096  # of a benchmark


class OutOfBounds(ValueError):
    """Which field, and what is wrong with it; one line."""


def check_hello(hello: pb.Hello) -> None:
    """Raises OutOfBounds."""
    if len(hello.models) > MAX_MODELS:
        raise OutOfBounds(f"hello names {len(hello.models)} models, more than {MAX_MODELS}")
    for name in (hello.worker_id, hello.profile.node):
        if len(name) > MAX_NAME or not name.isprintable():
            raise OutOfBounds(f"hello has a name that is longer than {MAX_NAME} characters or not printable")
    _check_message(hello, "hello")


def check_instance(instance: pb.ModelInstance) -> None:
    """Raises OutOfBounds."""
    _check_message(instance, "model")


def check_load(load: pb.Load) -> None:
    """Raises OutOfBounds. Hot: once per load report, so without reflection."""
    for value in (load.kv_used, load.tokens_per_s, load.last_step_s, load.observed_at_unix_s):
        if not 0.0 <= value < math.inf:
            raise OutOfBounds(f"load has the number {value}")


def _check_message(message: Message, where: str) -> None:
    """Every field that is set: texts short and printable, numbers finite and not negative, lists short."""
    for field, value in message.ListFields():
        name = f"{where}.{field.name}"
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            _check_table(value, name)
        elif _is_list(value):
            if len(value) > MAX_SAMPLES:
                raise OutOfBounds(f"{name} has {len(value)} entries, more than {MAX_SAMPLES}")
            for one in value:
                _check_value(one, name)
        else:
            _check_value(value, name)


def _check_value(value: Any, name: str) -> None:
    if isinstance(value, Message):
        _check_message(value, name)
    elif isinstance(value, str):
        limit = MAX_NAME if name.endswith((".model", ".quantization")) else MAX_TEXT
        if len(value) > limit:
            raise OutOfBounds(f"{name} is longer than {limit} characters")
    elif isinstance(value, float) and not 0.0 <= value < math.inf:
        raise OutOfBounds(f"{name} is {value}")


def _check_table(table: Any, name: str) -> None:
    if len(table) > MAX_ENTRIES:
        raise OutOfBounds(f"{name} has {len(table)} entries, more than {MAX_ENTRIES}")
    for key, value in table.items():
        if len(key) > MAX_TEXT or len(value) > MAX_TEXT:
            raise OutOfBounds(f"{name} has an entry longer than {MAX_TEXT} characters")


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes, Message))
