"""``allsorts worker``: serve models of this machine to routers one names."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from protos.contract.printable import plain_text
from workers.cli.alone import run_alone
from workers.cli.log_setup import set_up_logging
from workers.config import WorkerConfig, parse_labels, parse_model, read_config
from workers.engines.table import ENGINE_HELP
from workers.errors import WorkerError
from workers.owner.conditions import When
from workers.sizes import parse_size

EXPECTED = (WorkerError, OSError)
"""What can go wrong at the start: each is one clear line, not a traceback."""


def size(text: str) -> int:
    """Of an option."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


MaxCores = Annotated[int | None, typer.Option(min=1, help="Compute on at most so many cores.")]
MaxMemory = Annotated[
    int | None, typer.Option(parser=size, metavar="SIZE", help="All models together take at most this: 8GiB.")
]

WhenOption = Annotated[
    When | None,
    typer.Option(help="Take work always, only when plugged in, or only when also nobody uses this machine."),
]
BatteryPrice = Annotated[
    float | None,
    typer.Option(min=0, metavar="S", help="On battery a request must be better off here by so many seconds (5)."),
]
WaitForModels = Annotated[
    bool,
    typer.Option("--wait-for-models", help="Let the fleet's operator load and unload models here (fleet.toml)."),
]
MaxDisk = Annotated[
    int | None, typer.Option(parser=size, metavar="SIZE", help="Keep at most this on disk: logs, measurements.")
]


Role = Annotated[
    str | None, typer.Option(help="serve requests, or draft: propose tokens to the workers a router pairs it with.")
]
Listen = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Where a draft listens for its targets (any free port).")
]


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
    try:
        flags: dict[str, Any] = {
            "routers": tuple(router or ()),
            "engine": engine,
            "models": [_builtins(one) for one in model or ()],
            "wait_for_models": wait_for_models or None,
            "models_dir": str(models.absolute()) if models else None,
            "base_url": base_url,
            "context_tokens": context,
            "slots": slots,
            "threads": threads,
            "max_cores": max_cores,
            "max_memory_bytes": max_memory,
            "max_disk_bytes": max_disk,
            "when": when,
            "battery_price_s": battery_price,
            "node": node,
            "labels": parse_labels(label or []),
            "state_dir": str(state_dir) if state_dir else None,
            "role": role,
            "listen": listen,
            "benchmark": "off" if no_benchmark else "quick" if quick_benchmark else None,
        }
        settings = read_config(config, environment=os.environ, flags=flags)
        code, reason = run_worker(settings)
    except EXPECTED as error:
        code, reason = 1, str(error).splitlines()[0]
    if code != 0:
        print(plain_text(f"allsorts worker: {reason}"), file=sys.stderr)
    raise typer.Exit(code)


def run_worker(settings: WorkerConfig) -> tuple[int, str]:
    """Serve with this configuration until stopped; the exit status and why. Raises what ``EXPECTED`` lists."""
    from workers.server import serve  # engines' dependencies load late, so that --help is quick

    set_up_logging(settings.log_level)
    ended = asyncio.run(serve(settings))
    return ended.code, ended.reason


def _builtins(text: str) -> dict[str, str]:
    parsed = parse_model(text)
    return {"name": parsed.name, "path": parsed.path}


if __name__ == "__main__":
    run_alone(worker)
