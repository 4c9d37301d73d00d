"""Starts vLLM's engine core for one model; what goes wrong becomes one LoadError that says why."""

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import structlog

from protos.contract.models.hf_folder import HfFolder
from protos.contract.models.model_shape import ModelShape
from workers.engines.base import LoadError, ModelSpec, Progress
from workers.engines.vllm.core.core_log import log_file, logging_config, plainly, reason_in
from workers.engines.vllm.core.options import TIER, Options, engine_arguments, environment, options_of
from workers.engines.vllm.core.statistics import Statistics, stat_logger
from workers.engines.vllm.drafting.hook import why_no_hook
from workers.engines.vllm.folder import read_folder
from workers.engines.vllm.structured import BACKEND

log = structlog.get_logger(__name__)

OVERHEAD_BYTES = 1_500 * 2**20
"""A core process on a CPU before any weights: torch and vLLM's own modules."""

NOT_ON_PROCESSORS = frozenset({"fp8", "mxfp4", "nvfp4", "nf4"})
"""vLLM's table of supported hardware (docs.vllm.ai, features/quantization). It loads them all the same: FP8 (0.32.0)
computes no numbers on some processors, and takes minutes for a step on others."""


@dataclass(slots=True, kw_only=True)
class Launched:
    """A running AsyncLLM and what it was started from."""

    llm: Any
    spec: ModelSpec
    model: HfFolder
    options: Options
    events_at: str
    drafts_at: str = ""  # where the core's scheduler hears of drafts; empty: it takes none
    speculates: str = ""  # how, for people; "off: ...": why not
    folder: Path  # of the cores' log
    since: int  # bytes of that log which were there before
    statistics: Statistics = field(default_factory=Statistics)

    def last_words(self) -> str:
        """What the core's log says went wrong, in one line; empty: nothing."""
        return reason_in(self.folder, self.since)


class Launcher:
    """Starts one core after the other; keeps the folder for their log and sockets."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="allsorts-vllm-")
        self._path = Path(self._folder.name)
        self._number = 0

    async def launch(self, spec: ModelSpec, progress: Progress, changed: Callable[[], None]) -> Launched:
        """Read the folder, check, start. Raises LoadError. Takes half a minute on a CPU."""
        options = options_of(spec)
        model = await asyncio.to_thread(read_folder, Path(spec.path))
        shape = model.shape
        progress(0.1, f"{shape.quantization}, {shape.weights_bytes / 1e9:.2f} GB of weights")
        os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(await asyncio.to_thread(logging_config, self._path))
        on_cpu = await asyncio.to_thread(_on_cpu)
        os.environ.update(environment(options, on_cpu=on_cpu))
        if on_cpu:
            _check_format(spec, shape, model.stated.method)
            _check_memory(spec, shape, options)
        self._number += 1
        publishes = options.publish_cache and options.prefix_caching
        events_at = f"ipc://{self._path}/kv-{self._number}" if publishes else ""
        options, speculates = await asyncio.to_thread(speculation_of, options)
        drafts_at = f"ipc://{self._path}/drafts-{self._number}" if options.speculate == TIER else ""
        arguments = engine_arguments(
            spec, options, shape, on_cpu=on_cpu, events_at=events_at, drafts_at=drafts_at
        )  # fmt: skip
        since = log_file(self._path).stat().st_size if log_file(self._path).exists() else 0
        launched = Launched(
            llm=None, spec=spec, model=model, options=options, events_at=events_at, drafts_at=drafts_at,
            speculates=speculates, folder=self._path, since=since,
        )  # fmt: skip
        progress(0.2, "starting vLLM's core process")
        box: list[Any] = []
        try:
            await asyncio.to_thread(_start, arguments, launched.statistics, changed, box)
            launched.llm = box.pop()
        except Exception as error:
            raise load_error(launched, error) from error
        return launched

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def load_error(launched: Launched, error: Exception) -> LoadError:
    """Why a model cannot be served: the core's own reason, where its log tells; else what was raised."""
    told = str(error).strip()
    details = getattr(error, "errors", None)
    if callable(details):  # pydantic's ValidationError has a page of text around one message
        told = "; ".join(str(one.get("msg", "")).removeprefix("Value error, ") for one in details())
    first, *more = (told or type(error).__name__).splitlines()
    if first.endswith(":") and more:
        first = f"{first} {more[0].strip()}"
    reason = (launched.last_words() if "root cause" in first else "") or first
    if _DIED in reason:
        reason = "its core process ended without a reason in its log; see the worker's own output"
    return LoadError(f"{launched.spec.path}: {plainly(reason, launched.model.stated.method)}")


_DIED = "EngineCore encountered an issue"  # vLLM's EngineDeadError


def _on_cpu() -> bool:
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def speculation_of(options: Options) -> tuple[Options, str]:
    """The options as far as this vLLM can, and how it speculates, for people."""
    if options.speculate != TIER:
        return options, options.speculate
    why = why_no_hook()
    if not why:
        return options, "own text"
    log.warning("draft.no_hook", reason=why)
    return replace(options, speculate=""), f"off: {why}"


def _check_format(spec: ModelSpec, shape: ModelShape, method: str) -> None:
    if (name := shape.quantization) in NOT_ON_PROCESSORS:
        named = name if method in ("", name) else f"{name} ({method})"
        raise LoadError(
            f"{spec.path}: unsupported quantization {named}: vLLM has no kernels for it on processors; "
            "choose awq, gptq, w8a8 or full precision"
        )


def _check_memory(spec: ModelSpec, shape: ModelShape, options: Options) -> None:
    needed = shape.weights_bytes + options.kv_gib * 2**30 + OVERHEAD_BYTES
    free = psutil.virtual_memory().available
    if needed > free:
        raise LoadError(
            f"{spec.path}: needs about {needed / 2**30:.1f} GiB ({shape.weights_bytes / 2**30:.1f} of weights, "
            f"{options.kv_gib} of KV cache, the rest vLLM itself), {free / 2**30:.1f} GiB are free; lower kv_gib or "
            "choose a smaller quantization"
        )


def _start(arguments: dict[str, Any], statistics: Statistics, changed: Callable[[], None], box: list[Any]) -> None:
    """Put an AsyncLLM into ``box``. Not returned: vLLM keeps a frame of its start, and with it the thread's result,
    45 MB for each model that was ever loaded.
    """
    from vllm import AsyncEngineArgs
    from vllm.config import StructuredOutputsConfig
    from vllm.v1.engine.async_llm import AsyncLLM

    kept_to = StructuredOutputsConfig(backend=BACKEND)
    given = AsyncEngineArgs(**arguments, structured_outputs_config=kept_to)
    box.append(AsyncLLM.from_engine_args(given, stat_loggers=[stat_logger(statistics, changed)]))
