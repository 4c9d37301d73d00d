"""``allsorts dist``: what the head hands out beside itself, for machines without internet and for those alike."""

import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from protos.contract.locks import read_lock, without
from router.cli.support.tables import Row, Sheet, wide_console
from router.cli.support.terminal import say
from router.dist.builds import Builds, is_build
from router.dist.shelf import Shelf, shelf_folder
from router.errors import ConfigError

DOWNLOAD_DEADLINE_S = 1800.0
LOCKS = ("base", "llama")

app = typer.Typer(help="What the head hands out.", no_args_is_help=True, rich_markup_mode=None, add_completion=False)

_PYTHON = ".".join(platform.python_version_tuple()[:2])
_StateDir = Annotated[str, typer.Option(help="The router's state.")]


@app.callback()
def _group() -> None:
    """Wheels beside the head's own: with any there, machines that join install from them alone."""


@app.command()
def add(
    sources: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH…]", help="Wheels, folders of them, or a build's folder.")
    ] = None,
    for_platform: Annotated[
        str, typer.Option("--platform", metavar="TAG", help="Download what such machines need, e.g. macosx_14_0_arm64.")
    ] = "",
    python: Annotated[str, typer.Option(metavar="X.Y", help="With --platform: their Python.")] = _PYTHON,
    engine: Annotated[bool, typer.Option(help="With --platform: what llama.cpp needs, too.")] = True,
    state_dir: _StateDir = "",
) -> None:
    """Put wheels beside the head's own: from then on machines that join ask no package index.

    A build's folder, as `allsorts engine install` names it on the machine that compiled llama.cpp, is offered to
    machines like that one.

    Examples:
      allsorts dist add --platform macosx_14_0_arm64 --python 3.12

      allsorts dist add --platform manylinux_2_36_x86_64 --python 3.11     (Debian 12)

      allsorts dist add wheelhouse/

      allsorts dist add ~/.cache/allsorts/wheels/llama-2f5c…

    """
    shelf = Shelf(shelf_folder(state_dir))
    if not sources and not for_platform:
        raise ConfigError("name wheels or folders to add, or --platform for what such machines need")
    for one in sources or ():
        if is_build(one):
            say(f"offered to machines like the one that built it: {Builds(shelf.folder).add(one)}")
        else:
            say(f"{len(shelf.add([one]))} wheels from {one}")
    if for_platform:
        say(f"{_download(shelf, for_platform, python, engine=engine)} wheels for {for_platform}, Python {python}")
    say(f"{len(shelf.packages())} wheels in {shelf.folder}")


@app.command("list")
def show(state_dir: _StateDir = "") -> None:
    """Show what lies beside the head's own wheel.

    Examples:
      allsorts dist list

    """
    shelf = Shelf(shelf_folder(state_dir))
    packages = [(one.name, "", one) for one in shelf.packages()]
    packages += [(one.note.key, one.note.about, one.package) for one in Builds(shelf.folder).all()]
    if not packages:
        say("nothing lies beside the head's own wheel: machines that join ask their package index")
        return
    rows = [
        Row([escape(name), escape(about), f"{one.size_bytes / 1e6:.1f}", one.sha256[:16]])
        for name, about, one in packages
    ]
    wide_console().print(Sheet(("name or key", "for", "MB", "sha256"), rows, right=("MB",)))


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Wheels by name, builds by key.")],
    state_dir: _StateDir = "",
) -> None:
    """Take wheels and builds away. With none left, machines that join ask their package index again.

    Examples:
      allsorts dist remove numpy-2.4.6-cp311-cp311-macosx_14_0_arm64.whl

    """
    shelf = Shelf(shelf_folder(state_dir))
    builds = Builds(shelf.folder)
    gone = shelf.remove(names) + [one for one in names if builds.remove(one)]
    for name in names:
        say(f"{name}: {'removed' if name in gone else 'is not there'}")
    if len(gone) < len(names):
        raise typer.Exit(1)


def _platforms(tag: str) -> list[str]:
    """A platform takes what was made for older ones; of Linux's tags pip knows that only for the machine it runs on."""
    found = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", tag)
    tags = [tag]
    if found:
        older = [f"manylinux_2_{minor}" for minor in range(int(found[1]) - 1, 4, -1)]
        tags += [f"{one}_{found[2]}" for one in (*older, "manylinux2014", "manylinux2010", "manylinux1")]
    return [word for one in tags for word in ("--platform", one)]


def _download(shelf: Shelf, for_platform: str, python: str, *, engine: bool) -> int:
    """Every pinned package as a wheel, checked by the locks' hashes; how many."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for lock in LOCKS if engine else LOCKS[:1]:
            pinned = without(read_lock(lock), "llama-cpp-python")  # which has no wheels: it is compiled
            (folder / f"{lock}.txt").write_text(pinned)
            command = [
                sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps",
                "--only-binary", ":all:", "--require-hashes", *_platforms(for_platform), "--python-version", python,
                "--dest", str(folder / "wheels"), "-r", str(folder / f"{lock}.txt"),
            ]  # fmt: skip
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_DEADLINE_S, check=False)
            except subprocess.TimeoutExpired:
                raise ConfigError(f"pip did not finish within {DOWNLOAD_DEADLINE_S:.0f} s") from None
            if done.returncode != 0:
                reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:]
                raise ConfigError(
                    f"pip: {' '.join(reason) or done.stderr.strip()[-300:]}; is the platform's tag right?"
                )
        return len(shelf.add([folder / "wheels"]))
