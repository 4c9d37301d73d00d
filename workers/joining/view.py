"""What the owner of a joining machine sees: a line per step, progress of loads and benchmarks, expected against
measured. On a pipe the same lines, without bars.
"""

import time

from rich.console import Console
from rich.markup import escape
from rich.prompt import Confirm, IntPrompt
from rich.table import Table

from protos.contract.events import ModelProgress
from protos.contract.joining.enrolment import ModelOffer
from protos.contract.printable import plain_text
from protos.contract.worker import Hardware, InstanceState, ModelInstance
from workers.joining.model_selection import Option

REDRAW_S = 0.5
"""Between two states of a line that is drawn again."""


class JoinView:
    """Writes to ``console``; keeps the router's expectations to show them beside what was measured."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.expected: tuple[ModelOffer, ...] = ()
        self._guessed = False  # what the router expects of a processor
        self._said: dict[tuple[str, str], tuple[InstanceState, int, str]] = {}

    def say(self, line: str) -> None:
        """A step is done."""
        self.console.print(f"[green]·[/green] {escape(plain_text(line))}", soft_wrap=True)

    def warn(self, line: str) -> None:
        """Something its owner should know."""
        self.console.print(f"[yellow]![/yellow] {escape(plain_text(line))}", soft_wrap=True)

    def hardware(self, hardware: Hardware) -> None:
        """What was detected."""
        self._guessed = hardware.kind == "cpu"
        count = f"{hardware.count} x " if hardware.count > 1 else ""
        usable = f", {hardware.usable_memory_bytes / 2**30:.1f} GiB for models" if hardware.usable_memory_bytes else ""
        if (told := hardware.details.get("memory", "")) and not usable:
            usable = f", its memory is {told}"
        cores = f", {hardware.cores} cores" if hardware.cores else ""
        power = ", on battery" if hardware.on_battery else ""
        power += ", in low-power mode" if hardware.low_power else ""
        self.say(f"this machine: {count}{hardware.name}{cores}{usable}{power}")

    def plan(self, lines: list[tuple[str, str]]) -> None:
        """What joining will do here, before it does."""
        self.say("joining this machine:")
        for word, line in lines:
            self.console.print(f"    {word:<8}", end="", markup=False)
            self.console.print(line, markup=False, soft_wrap=True)

    def confirm(self, question: str) -> bool:
        """Yes unless the owner says no."""
        return Confirm.ask(question, console=self.console, default=True)

    def ask(self, options: list[Option]) -> int:
        """Which of the options to serve; the first is the router's choice."""
        table = Table("", "model", "quantization", "expected tokens/s", "why", box=None)
        for number, option in enumerate(options[:20], 1):
            offer = option.offer
            speed = f"{offer.tokens_per_s:.1f}" if offer else "-"
            why = offer.reason if offer else "not among the router's offers"
            table.add_row(
                str(number), escape(plain_text(option.name)), option.quantization or "?", speed, escape(plain_text(why))
            )
        self.console.print(table)
        choices = [str(number) for number in range(1, min(20, len(options)) + 1)]
        return IntPrompt.ask("serve which", console=self.console, choices=choices, show_choices=False, default=1) - 1

    def progress(self, progress: ModelProgress) -> None:
        """A load or a benchmark moved on: a line per stage and per tenth of it."""
        report = progress.model
        measuring = report.state is InstanceState.BENCHMARKING  # says what it waits for
        step = (report.state, int(progress.fraction * 10), progress.message if measuring else "")
        if self._said.get(report.key) == step:
            return
        self._said[report.key] = step
        name = f"{report.model}@{report.quantization}" if report.quantization else report.model
        match report.state:
            case InstanceState.READY:
                self._ready(name, report)
            case InstanceState.FAILED:
                self.warn(f"{name} failed: {report.error}")
            case InstanceState.UNLOADED:
                pass
            case _:
                self.say(f"{name}: {report.state} {progress.fraction:4.0%} {progress.message}")

    def _ready(self, name: str, report: ModelInstance) -> None:
        speed = report.speed
        if speed is None:
            self.say(f"{name} is serving (not measured); Ctrl-C leaves the fleet")
            return
        offer = next((o for o in self.expected if (o.model, o.quantization.lower()) == report.key), None)
        table = Table("", "router expected", "measured here", "ratio", box=None)
        measured = (
            ("tokens/s, one stream", speed.stream_tokens_per_s),
            ("prefill tokens/s", speed.prefill_tokens_per_s),
        )
        expected = (offer.tokens_per_s, offer.prefill_tokens_per_s) if offer else (0.0, 0.0)
        for (what, found), hoped in zip(measured, expected, strict=True):
            ratio = f"{found / hoped:.2f}" if hoped > 0 else "-"
            table.add_row(what, f"{hoped:.1f}" if hoped > 0 else "-", f"{found:.1f}", ratio)
        self.console.print(table)
        if self._guessed and offer is not None:
            self.say("of a processor the router can only guess: its clock and memory are not known; measured counts")
        self.say(f"{name} is serving; Ctrl-C leaves the fleet")


class BuildProgress:
    """One line that is drawn again and again on a terminal, and a line every tenth elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn = 0.0
        self._tenth = -1

    def __call__(self, done: int, total: int, seconds: float) -> None:
        """``done`` of ``total`` steps after ``seconds``."""
        line = f"· compiled {done} of {total} ({seconds:.0f} s)"
        if self._console.is_terminal:
            if done == total or time.monotonic() - self._drawn > REDRAW_S:
                self._drawn = time.monotonic()
                self._console.print(line, end="\n" if done == total else "\r", markup=False)
        elif (tenth := 10 * done // max(total, 1)) != self._tenth:
            self._tenth = tenth
            self._console.print(line, markup=False)
