"""Showing what the doctor found: one line a check, the hint below each that failed."""

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from rich.console import Console

from protos.contract.printable import plain_text
from workers.doctor.checks import connection_checks, local_checks
from workers.doctor.finding import Finding
from workers.engines.table import DEFAULT_ENGINE


async def diagnose(
    address: str,
    token: str = "",
    *,
    engine: str = DEFAULT_ENGINE,
    model: Path | None = None,
    node: str = "",
    state_dir: Path | None = None,
    console: Console | None = None,
) -> int:
    """Run every check and show it as it comes; 0 when all passed, else 1. Without ``address`` only the local ones."""
    console = console or Console(highlight=False)
    failed = await _show(local_checks(engine=engine, model=model), console)
    if address:
        failed += await _show(connection_checks(address, token, node=node, state_dir=state_dir), console)
    console.print("everything is in order" if not failed else f"{failed} to be mended, the first one first")
    return 1 if failed else 0


def show_all(findings: Iterable[Finding], console: Console) -> int:
    """Of checks that were made elsewhere; 0 when all passed, else 1."""
    failed = 0
    for finding in findings:
        _show_one(finding, console)
        failed += not finding.ok
    console.print("everything is in order" if not failed else f"{failed} to be mended, the first one first")
    return 1 if failed else 0


async def _show(findings: AsyncIterator[Finding], console: Console) -> int:
    failed = 0
    async for finding in findings:
        _show_one(finding, console)
        failed += not finding.ok
    return failed


def _show_one(finding: Finding, console: Console) -> None:
    mark = "[green]ok  [/green]" if finding.ok else "[red]FAIL[/red]"
    console.print(f"{mark} {finding.check:<12}", end="")
    console.print(plain_text(finding.detail), markup=False, soft_wrap=True)
    if not finding.ok:
        console.print(plain_text(f"     → {finding.hint}"), markup=False, soft_wrap=True)
