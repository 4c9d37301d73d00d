"""What a worker may say about itself: sizes and numbers that the router is willing to believe.

A worker that steps over a bound is broken or hostile; its session ends, nothing else does. The bounds are far above
what an honest worker says.
"""

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message

from protos.allsorts.v1 import fleet_pb2 as pb
from protos.contract.files.content import BadContent, FilePart, ModelContent, check_content
from protos.contract.printable import UNPRINTABLE

MAX_MODELS = 256  # on one worker
MAX_TEXT = 4096  # of any text field; errors of engines can be long
MAX_NAME = 200  # of node, worker, model and quantization
MAX_ENTRIES = 64  # of labels, hardware details
MAX_LISTED = 4096
MAX_BLOCKS = 65_536  # in one cache event
MAX_POINTS = 64  # of a measured curve
MAX_PARTS = 8192  # files of all models on one worker
MAX_CONTEXT = 2**24  # tokens; what a context allows is what an answer may fill memory with

MAX_COUNTED = 2.0**50
"""Of anything that is summed up over requests."""

FASTEST_STEP_S = 1e-6
"""A step is a pass over the weights. A worker that claims less would win every comparison; 0 says: not measured."""

SLOWEST_PREFILL_TOKENS_PER_S = 1e-3
"""Of one that is measured: its inverse stands in the cost, where an infinity would spoil all sums."""

MAX_VALUES: Mapping[str, float] = {
    **dict.fromkeys(("base_s", "per_sequence_s", "prefill_base_s", "last_step_s", "seconds", "price_s"), 86_400.0),
    "per_context_token_s": 1.0,
    **dict.fromkeys(("prefill_tokens_per_s", "tokens_per_s"), 1e9),
    "bandwidth_bytes_per_s": 2.0**50,
    **dict.fromkeys(("wasted_s", "rtt_s", "token_s"), 2.0**30),
    **dict.fromkeys(("predicted_gain", "measured_gain"), 1e3),
    "bits_per_weight": 64.0,
    "tokens_per_byte": 4.0,
    "temperature": 5.0,
    **dict.fromkeys(("top_p", "min_p"), 1.0),
    "top_k": 2.0**31 - 1,
    "repetition_penalty": 10.0,
    "perplexity_ratio": 1e6,
    "kv_used": 100.0,
    **dict.fromkeys(("memory_bytes", "usable_memory_bytes", "weights_bytes", "kv_capacity_tokens"), 2.0**50),
    **dict.fromkeys(("size_bytes", "room_bytes", "done_bytes", "total_bytes"), 2.0**50),
    "memory_limit_bytes": 2.0**50,
    "context_tokens": float(MAX_CONTEXT),
    "load.context_tokens": MAX_COUNTED,  # of all that run there
    **dict.fromkeys(("prefill_tokens_pending", "expected_remaining_tokens"), MAX_COUNTED),
    **dict.fromkeys(("draft_rounds", "draft_proposed", "draft_accepted"), MAX_COUNTED),
    **dict.fromkeys(("rounds", "proposed", "accepted", "late"), MAX_COUNTED),  # of a draft
    "parameters": 1e15,
    "active_parameters": 1e15,
    **dict.fromkeys(("slots", "count"), 65_536.0),
}
"""The largest believable value of a field, by its name."""

_FREE_TEXT = ("error", "message", "reason", "paused")
"""What engines say in their own words may have several lines; ``printable.one_line`` makes it fit to be shown."""


class OutOfBounds(ValueError):
    """Which field, and what is wrong with it; one line."""


def check_hello(hello: pb.Hello) -> None:
    """Raises OutOfBounds."""
    if len(hello.models) > MAX_MODELS:
        raise OutOfBounds(f"hello names {len(hello.models)} models, more than {MAX_MODELS}")
    if len(hello.files) > MAX_MODELS:
        raise OutOfBounds(f"hello names {len(hello.files)} files, more than {MAX_MODELS}")
    for name in (hello.worker_id, hello.profile.node):
        if len(name) > MAX_NAME or not name.isprintable():
            raise OutOfBounds(f"hello has a name that is longer than {MAX_NAME} characters or not printable")
    _check_message(hello, "hello")


def check_instance(instance: pb.ModelInstance) -> None:
    """Raises OutOfBounds."""
    _check_message(instance, "model")


def check_cache(cache: pb.CacheEvents) -> None:
    """Raises OutOfBounds."""
    if len(cache.stored) + len(cache.evicted) > MAX_BLOCKS:
        raise OutOfBounds(f"a cache event names more than {MAX_BLOCKS} blocks")


def check_draft(report: pb.DraftReport) -> None:
    """Raises OutOfBounds."""
    _check_message(report, "draft")


def check_files(held: pb.FilesHeld) -> None:
    """Raises OutOfBounds."""
    if len(held.models) > MAX_MODELS or sum(len(one.content.parts) for one in held.models) > MAX_PARTS:
        raise OutOfBounds(f"more than {MAX_MODELS} models or {MAX_PARTS} files of models on one worker")
    _check_message(held, "files_held")
    for one in held.models:
        content = one.content
        parts = tuple([FilePart(name=p.name, size_bytes=p.size_bytes, sha256=p.sha256) for p in content.parts])
        try:
            check_content(ModelContent(sha256=content.sha256, parts=parts))
        except BadContent as error:
            raise OutOfBounds(f"files_held: {one.model[:MAX_NAME]}: {error}") from None
        if not parts:
            raise OutOfBounds(f"files_held: {one.model[:MAX_NAME]} has no files")


def check_fetch(progress: pb.FetchProgress) -> None:
    """Raises OutOfBounds."""
    _check_message(progress, "fetch")


def check_load(load: pb.Load) -> None:
    """Raises OutOfBounds. Hot: once per load report, so without reflection."""
    for value, most in (
        (load.kv_used, MAX_VALUES["kv_used"]),
        (load.tokens_per_s, MAX_VALUES["tokens_per_s"]),
        (load.last_step_s, MAX_VALUES["last_step_s"]),
        (load.price_s, MAX_VALUES["price_s"]),
        (load.prefill_tokens_pending, MAX_COUNTED),
        (load.context_tokens, MAX_COUNTED),
        (load.expected_remaining_tokens, MAX_COUNTED),
        (load.draft_rounds, MAX_COUNTED),
        (load.draft_proposed, MAX_COUNTED),
        (load.draft_accepted, MAX_COUNTED),
    ):
        if not 0.0 <= value <= most or value == math.inf:
            raise OutOfBounds(f"load has the number {value}")


def _check_message(message: Message, where: str) -> None:
    """Every field that is set: texts short and printable, numbers finite and believable, lists short."""
    if isinstance(message, pb.Speed):
        _check_speed(message, where)
    for field, value in message.ListFields():
        name = f"{where}.{field.name}"
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            _check_table(value, name)
        elif _is_list(value):
            if len(value) > MAX_LISTED:
                raise OutOfBounds(f"{name} has {len(value)} entries, more than {MAX_LISTED}")
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
        if not name.endswith(_FREE_TEXT) and UNPRINTABLE.search(value):
            raise OutOfBounds(f"{name} has characters that cannot be printed")
    elif isinstance(value, (float, int)):
        most = MAX_VALUES.get(".".join(name.rsplit(".", 2)[-2:]), MAX_VALUES.get(name.rpartition(".")[2], math.inf))
        if not 0.0 <= value <= most or value == math.inf:
            raise OutOfBounds(f"{name} is {value}")


def _check_speed(speed: pb.Speed, name: str) -> None:
    step_s = speed.base_s + speed.per_sequence_s
    if 0.0 < step_s < FASTEST_STEP_S:
        raise OutOfBounds(f"{name}: no engine makes a step in {step_s} s")
    if 0.0 < speed.prefill_tokens_per_s < SLOWEST_PREFILL_TOKENS_PER_S:
        raise OutOfBounds(f"{name}.prefill_tokens_per_s is {speed.prefill_tokens_per_s}")
    for field in ("decode_curve", "prefill_curve"):
        _check_curve(getattr(speed, field), f"{name}.{field}")
    if len(speed.prefill_curve) and not speed.prefill_tokens_per_s:
        raise OutOfBounds(f"{name}.prefill_curve comes without prefill_tokens_per_s")


def _check_curve(curve: Any, name: str) -> None:
    """Points in order, each a time that an engine can take: a curve that says less would win every comparison."""
    if len(curve) > MAX_POINTS:
        raise OutOfBounds(f"{name} has {len(curve)} points, more than {MAX_POINTS}")
    before = 0
    for point in curve:
        if point.at <= before:
            raise OutOfBounds(f"{name} has a point at {point.at} after one at {before}")
        if not point.seconds >= max(FASTEST_STEP_S, point.at / MAX_VALUES["prefill_tokens_per_s"]):
            raise OutOfBounds(f"{name}: no engine does {point.at} in {point.seconds} s")
        before = point.at


def _check_table(table: Any, name: str) -> None:
    if len(table) > MAX_ENTRIES:
        raise OutOfBounds(f"{name} has {len(table)} entries, more than {MAX_ENTRIES}")
    for key, value in table.items():
        if len(key) > MAX_TEXT or len(value) > MAX_TEXT:
            raise OutOfBounds(f"{name} has an entry longer than {MAX_TEXT} characters")
        if UNPRINTABLE.search(key) or UNPRINTABLE.search(value):
            raise OutOfBounds(f"{name} has an entry with characters that cannot be printed")


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes, Message))
