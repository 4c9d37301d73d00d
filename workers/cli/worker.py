"""``allsorts worker``: serve models of this machine to routers one names."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from protos.contract.joining.join_token import BadToken
from protos.contract.printable import plain_text
from workers.cli.alone import run_alone
from workers.cli.log_setup import set_up_logging
from workers.cli.options import (
    BatteryPrice,
    KeepFree,
    Listen,
    MaxCores,
    MaxDisk,
    MaxMemory,
    MaxModelsDisk,
    NoShare,
    Role,
    WaitForModels,
    WhenOption,
    flags_of,
    text_of,
)
from workers.config import WorkerConfig, parse_labels, parse_model, read_config
from workers.engines.table import ENGINE_HELP
from workers.errors import WorkerError

if TYPE_CHECKING:
    from workers.serving.worker import Ended

EXPECTED = (WorkerError, OSError, BadToken)
"""What can go wrong at the start: each is one clear line, not a traceback."""


def worker(
    router: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="A router's session listener; may be repeated.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help=ENGINE_HELP)] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="A model to serve: GGUF file, folder or profile; may be repeated."),
    ] = None,
    wait_for_models: WaitForModels = False,
    models: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where files lie that may be loaded.")] = None,
    base_url: Annotated[str | None, typer.Option(help="The running server's base URL, with --engine openai.")] = None,
    context: Annotated[int | None, typer.Option(min=1, help="Longest prompt plus output, in tokens.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Sequences that run together.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of the engine.")] = None,
    max_cores: MaxCores = None,
    max_memory: MaxMemory = None,
    max_disk: MaxDisk = None,
    keep_free: KeepFree = None,
    max_models_disk: MaxModelsDisk = None,
    no_share: NoShare = False,
    when: WhenOption = None,
    battery_price: BatteryPrice = None,
    node: Annotated[str | None, typer.Option(help="This machine's name in the fleet.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A label; may be repeated.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="A TOML file with any of these.")] = None,
    no_benchmark: Annotated[bool, typer.Option("--no-benchmark", help="Do not measure models on joining.")] = False,
    quick_benchmark: Annotated[
        bool, typer.Option("--quick-benchmark", help="Measure for at most four seconds.")
    ] = False,
    state_dir: Annotated[Path | None, typer.Option(help="Where this worker keeps its identity.")] = None,
    role: Role = None,
    listen: Listen = None,
) -> None:
    """Serve models of this machine to a fleet.

    Examples:
      allsorts worker --router 127.0.0.1:8100 --model smollm2-135m=models/smollm2-135m-q8_0.gguf

      allsorts worker --wait-for-models --models ~/models        (what `allsorts apply fleet.toml` wants there)

      allsorts worker --engine openai --base-url http://127.0.0.1:11434/v1

      allsorts worker --config worker.toml --label site=lab

      allsorts worker --role draft --model smollm2-135m=models/smollm2-135m-q4_0.gguf

    """
    _worker(locals())


def _worker(given: Mapping[str, Any]) -> None:
    try:
        flags = {
            **flags_of(given),
            "routers": tuple(given["router"] or ()),
            "models": [_builtins(one) for one in given["model"] or ()],
            "models_dir": text_of(given["models"].absolute()) if given["models"] else None,
            "labels": parse_labels(given["label"] or []),
            "state_dir": text_of(given["state_dir"]),
        }
        settings = read_config(given["config"], environment=os.environ, flags=flags)
        code, reason = run_worker(settings)
    except EXPECTED as error:
        code, reason = 1, str(error).splitlines()[0]
    if code != 0:
        print(plain_text(f"allsorts worker: {reason}"), file=sys.stderr)
    raise typer.Exit(code)


def run_worker(settings: WorkerConfig) -> tuple[int, str]:
    """Serve with this configuration until stopped; the exit status and why. Raises what ``EXPECTED`` lists."""
    set_up_logging(settings.log_level)
    ended = asyncio.run(_serve_enrolled(settings) if settings.enrol else _serve(settings))
    return ended.code, ended.reason


async def _serve(settings: WorkerConfig, **joined: Any) -> "Ended":
    from workers.server import serve  # engines' dependencies load late, so that --help is quick

    return await serve(settings, **joined)


async def _serve_enrolled(settings: WorkerConfig) -> "Ended":
    """With a certificate, which is renewed for as long as it serves."""
    from workers.engines.table import engine_spec
    from workers.joining.join import keep_renewed
    from workers.joining.let_in import let_in
    from workers.joining.profile import profile_of

    engine, model = engine_spec(settings.engine), next(iter(settings.models), None)
    profile = await profile_of(
        engine, node=settings.node, threads=settings.threads, labels=settings.labels, model=model
    )
    joined = await let_in(settings, profile)
    settings = msgspec.structs.replace(settings, routers=joined.membership.replicas)
    with joined.files.in_use():
        renewing = asyncio.create_task(keep_renewed(joined.files, profile), name="certificate renewal")
        try:
            known = joined.membership.worker_id
            return await _serve(settings, worker_id=known, security=joined.files.security(), profile=profile)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)


def _builtins(text: str) -> dict[str, str]:
    parsed = parse_model(text)
    return {"name": parsed.name, "path": parsed.path}


if __name__ == "__main__":
    run_alone(worker)
