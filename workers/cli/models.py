"""Models' files on this very machine, whether a worker runs or not: what `allsorts models` does without --on."""

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import typer

from protos.contract.events import FetchProgress
from protos.contract.files.hashing import HashCache
from protos.contract.files.library import ModelLibrary, Shelved, described
from protos.contract.models.model_name import parse_name
from workers.errors import WorkerError
from workers.joining.home import Home
from workers.models.disk import ModelDisk
from workers.models.fetcher import Fetcher, Wanted
from workers.models.web import WebSource

P = ParamSpec("P")


def _plainly(action: Callable[P, None]) -> Callable[P, None]:
    """What goes wrong is one line, and the command has failed."""

    @functools.wraps(action)
    def run(*given: P.args, **named: P.kwargs) -> None:
        try:
            action(*given, **named)
        except (WorkerError, OSError) as error:
            typer.echo(f"allsorts: {error}", err=True)
            raise typer.Exit(1) from None

    return run


class NoSuchModel(WorkerError):
    """Nothing, or more than one thing, is called so here."""


@_plainly
def here(folder: str = "") -> None:
    """List them, with their hashes."""
    library = _library(folder)
    problems = library.look()
    for one in library.shelved:
        held = one.held
        name = f"{held.model}@{held.quantization}" if held.quantization else held.model
        print(f"{held.content.sha256[:12]}  {held.content.size_bytes / 1e6:9.1f} MB  {name}  {one.path}")
    for problem in problems:
        print(f"left out: {problem}")
    if not library.shelved:
        print(f"no models in {library.folder}")


@_plainly
def pull(source: str, name: str = "", folder: str = "") -> None:
    """Fetch one into the folder. Raises FetchFailed, NoDisk, BadSource."""
    library = _library(folder)
    path = asyncio.run(_pull(library, source, name))
    held = described(path, library.cache.content(path))
    print(f"{held.model}: {held.content.sha256[:12]}, {held.content.size_bytes / 1e6:.1f} MB, in {path}")


async def _pull(library: ModelLibrary, source: str, name: str) -> Path:
    named = parse_name(source.partition("?")[0])
    wanted = Wanted(
        model=name or named.model.lower(), quantization=named.quantization, sources=[WebSource(source, os.environ)]
    )
    return await Fetcher(library, ModelDisk(folder=library.folder)).fetch(wanted, _say)


def _say(progress: FetchProgress) -> None:
    of = f" of {progress.total_bytes / 1e6:.0f}" if progress.total_bytes else ""
    print(f"· {progress.model}: {progress.done_bytes / 1e6:.0f}{of} MB")


@_plainly
def remove(model: str, folder: str = "") -> None:
    """Delete one. A worker that has it loaded goes on with what it has in memory. Raises NoSuchModel, OSError."""
    library = _library(folder)
    library.look()
    found = [one for one in library.shelved if _is(one, model)]
    if len(found) != 1:
        names = ", ".join(f"{one.held.model}@{one.held.quantization} ({one.held.content.sha256[:12]})" for one in found)
        raise NoSuchModel(f"{model} is {'several models' if found else 'no model'} here{': ' + names if names else ''}")
    library.delete(found[0])
    print(f"{found[0].path} is gone")


def _is(one: Shelved, model: str) -> bool:
    held = one.held
    return model in (held.model, f"{held.model}@{held.quantization}") or (
        len(model) >= 8 and held.content.sha256.startswith(model)
    )


def _library(folder: str) -> ModelLibrary:
    home = Home.of()
    return ModelLibrary(Path(folder) if folder else home.models, HashCache(home.state / "model-hashes.json"))
