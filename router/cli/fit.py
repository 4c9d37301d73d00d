"""``allsorts fit``: what of a model fits which machine, how fast it will be, what it loses, and what to run."""

import json
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from protos.contract.models.kv_cache import KV_BYTES
from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quantization import FORMATS, find_format, unknown_format
from router.capacity.fit import FitResult, Plan
from router.capacity.format_choice import FormatChoice, Purpose, Question, choose_format
from router.capacity.machine_text import parse_machines
from router.capacity.machines import GIB, Machine
from router.capacity.options import USUAL, Option, options
from router.cli.support.model_files import read_model
from router.cli.support.tables import Row, Sheet, wide_console
from router.errors import ConfigError

USUAL_CONTEXT = 8192
MAX_CONTEXT_TOKENS = 10_000_000
MAX_BATCH = 4096

_BATCH = "batch tokens/s"
_COLUMNS = (
    "format", "engine", "fits", "weights", "kv", "buffers", "overhead", "left", "longest", "tokens/s", _BATCH,
    "prefill/s", "loss",
)  # fmt: skip
_LEGEND = "sizes in GiB; longest: context at this batch; tokens/s predicted, at half the context; loss: perplexity"
_STYLES = {
    FitResult.FITS: "green",
    FitResult.OFFLOADS: "yellow",
    FitResult.TOO_LARGE: "red",
    FitResult.NOT_SERVED: "dim",
}


def fit(
    model: Annotated[str, typer.Argument(help="A GGUF file, a config.json or its folder, a name, or a size: 70B.")],
    on: Annotated[list[str], typer.Option("--on", help="Machines: 'M4 Max 128GB, 2x H100'. May be repeated.")],
    context: Annotated[int, typer.Option(help="Tokens of one sequence: prompt and output. 0: up to 8192.")] = 0,
    batch: Annotated[int, typer.Option(help="Sequences that run together.")] = 1,
    kv: Annotated[str, typer.Option(help="KV cache format: f16, fp8, q8_0 or q4_0.")] = "f16",
    formats: Annotated[str, typer.Option("--format", help="Only these, separated by commas; 'all' for all.")] = "",
    purpose: Annotated[Purpose, typer.Option(help="What it is for; decides what is recommended.")] = Purpose.PRODUCTION,
    quality_first: Annotated[
        bool, typer.Option(help="Medical, legal and the like: rather none than few bits.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what fits, how fast it should be, at what quality, and what to run; with reasons.

    Examples:
      allsorts fit 70B --on "M4 Max 128GB, 2x RTX 4090 + 64GB, H100" --on "Ryzen AI Max+ 395 128GB"

      allsorts fit 32B --on "RTX 3090 + RTX 3060 + 64GB"

      allsorts fit model.Q4_K_M.gguf --on "RTX 3090" --context 32768 --batch 8

      allsorts fit ./Llama-3.1-8B/config.json --on "A100 80GB" --quality-first

    """
    shape = read_model(model)
    plan = _plan(shape, context, batch, kv)
    names = _formats(shape, formats)
    machines = [machine for text in on for machine in parse_machines(text)]
    found = [_Found.of(shape, machine, plan, names, purpose, quality_first) for machine in machines]
    if as_json:
        print(json.dumps({"model": _model(shape), "plan": _asked(plan), "machines": [one.body() for one in found]}))
        return
    console = wide_console()
    console.print(_headline(shape, plan), highlight=False)
    for one in found:
        one.show(console)


def _plan(shape: ModelShape, context: int, batch: int, kv: str) -> Plan:
    longest = shape.context_tokens
    if context < 0 or context > (longest or MAX_CONTEXT_TOKENS):
        limit = f"{shape.name} was trained for {longest}" if longest else f"write at most {MAX_CONTEXT_TOKENS}"
        raise ConfigError(f"--context {context}: {limit} tokens")
    if not 1 <= batch <= MAX_BATCH:
        raise ConfigError(f"--batch {batch}: write a number between 1 and {MAX_BATCH}")
    if kv not in KV_BYTES:
        raise ConfigError(f"--kv {kv!r}: known are {', '.join(KV_BYTES)}")
    return Plan(context_tokens=context or min(USUAL_CONTEXT, longest or USUAL_CONTEXT), batch=batch, kv_format=kv)


def _formats(shape: ModelShape, text: str) -> tuple[str, ...]:
    if text.strip().lower() == "all":
        return tuple(one.name for one in FORMATS)
    names = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        known = find_format(part)
        if known is None:
            raise ConfigError(f"--format: {unknown_format(part)}")
        names.append(known.name)
    usual = (*filter(None, [shape.quantization]), *USUAL)
    return tuple(dict.fromkeys(names or usual))


@dataclass(frozen=True, slots=True)
class _Found:
    plan: Plan
    machine: Machine
    options: tuple[Option, ...]
    chosen: FormatChoice

    @classmethod
    def of(
        cls, shape: ModelShape, machine: Machine, plan: Plan, names: tuple[str, ...], purpose: Purpose, first: bool
    ) -> "_Found":
        ways = options(shape, machine, plan, names)
        question = Question(shape=shape, machine=machine, options=ways, purpose=purpose, quality_first=first)
        return cls(plan, machine, ways, choose_format(question))

    def show(self, console: Console) -> None:
        usable = self.machine.hardware.usable_memory_bytes / GIB
        beside = self.machine.host_memory_bytes / GIB
        notes = "".join(f"; {note}" for note in self.machine.notes)
        host = f" + {beside:.0f} GiB of the host" if beside else ""
        console.print(f"\n[bold]{self.machine.name}[/bold]: {usable:.1f} GiB for models{host}{notes}", highlight=False)
        shown = [name for name in _COLUMNS if name != _BATCH or self.plan.batch > 1]
        rows = []
        for one in self.options:
            row = dict(zip(_COLUMNS, _row(one), strict=True))
            rows.append(Row([row[name] for name in shown], "bold" if one is self.chosen.option else ""))
        console.print(Sheet(shown, rows, keys=2, right=shown[3:]))
        console.print(_LEGEND, style="dim", highlight=False)
        for basis in dict.fromkeys(one.basis for one in self.options if one.fit.runs):
            which = ", ".join(dict.fromkeys(str(one.engine) for one in self.options if one.basis is basis))
            console.print(f"speeds of {which}: {basis}", style="dim", highlight=False)
        choice = self.chosen.option
        name = f"{choice.format.name} on {choice.engine}" if choice else "nothing here"
        console.print(f"[bold]recommended: {name}[/bold]", highlight=False)
        for reason in self.chosen.reasons:
            console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)

    def body(self) -> dict[str, Any]:
        choice = self.chosen.option
        return {
            "machine": self.machine.name,
            "usable_memory_bytes": self.machine.hardware.usable_memory_bytes,
            "host_memory_bytes": self.machine.host_memory_bytes,
            "notes": list(self.machine.notes),
            "options": [_option(one) for one in self.options],
            "recommended": {"format": choice.format.name, "engine": str(choice.engine)} if choice else None,
            "reasons": list(self.chosen.reasons),
            "passed_over": [{"format": name, "reason": why} for name, why in self.chosen.passed_over],
        }


def _headline(shape: ModelShape, plan: Plan) -> str:
    size = f"{shape.parameters / 1e9:.3g}B parameters"
    if shape.active_parameters != shape.parameters:
        size += f", {shape.active_parameters / 1e9:.2g}B active"
    held = f", as {shape.quantization} {shape.weights_bytes / GIB:.2f} GiB" if shape.weights_bytes else ""
    note = f" ({shape.note})" if shape.note else ""
    return (
        f"[bold]{shape.name}[/bold]{note}: {size}, {shape.layers} layers{held}; context {plan.context_tokens}, "
        f"batch {plan.batch}, KV cache {plan.kv_format}"
    )


def _row(one: Option) -> list[str]:
    style = _STYLES[one.fit.result]
    memory = one.fit.memory
    offloads = one.fit.result is FitResult.OFFLOADS
    sizes = (memory.weights_bytes, memory.kv_bytes, memory.buffers_bytes, memory.overhead_bytes, memory.left_bytes)
    speeds = (one.tokens_per_s, one.batch_tokens_per_s, one.prefill_tokens_per_s)
    return [
        one.format.name,
        str(one.engine),
        f"[{style}]{one.fit.result}[/{style}]" + (f" {one.fit.offloaded:.0%}" if offloads else ""),
        *(f"{size / GIB:.1f}" for size in sizes),
        str(one.fit.longest_context or "-"),
        *(_rate(speed) for speed in speeds),
        f"{one.loss:.1%}",
    ]


def _rate(tokens_per_s: float) -> str:
    if not tokens_per_s:
        return "-"
    return f"{tokens_per_s:.1f}" if tokens_per_s < 100 else f"{tokens_per_s:.0f}"


def _option(one: Option) -> dict[str, Any]:
    memory = one.fit.memory
    return {
        "format": one.format.name,
        "engine": str(one.engine),
        "verdict": str(one.fit.result),
        "reason": one.fit.reason,
        "bits_per_weight": one.format.bits_per_weight,
        "weights_bytes": round(memory.weights_bytes),
        "kv_bytes": round(memory.kv_bytes),
        "buffers_bytes": round(memory.buffers_bytes),
        "overhead_bytes": round(memory.overhead_bytes),
        "usable_bytes": round(memory.usable_bytes),
        "left_bytes": round(memory.left_bytes),
        "offloaded": round(one.fit.offloaded, 4),
        "longest_context_tokens": one.fit.longest_context,
        "largest_batch": one.fit.largest_batch,
        "tokens_per_s": round(one.tokens_per_s, 2),
        "batch_tokens_per_s": round(one.batch_tokens_per_s, 2),
        "prefill_tokens_per_s": round(one.prefill_tokens_per_s, 1),
        "prediction": str(one.basis),
        "perplexity_loss": round(one.loss, 5),
    }


def _model(shape: ModelShape) -> dict[str, Any]:
    return {
        "name": shape.name,
        "note": shape.note,
        "parameters": shape.parameters,
        "active_parameters": shape.active_parameters,
        "layers": shape.layers,
        "kv_heads": shape.kv_heads,
        "context_tokens": shape.context_tokens,
        "quantization": shape.quantization,
        "weights_bytes": shape.weights_bytes,
    }


def _asked(plan: Plan) -> dict[str, Any]:
    return {"context_tokens": plan.context_tokens, "batch": plan.batch, "kv_format": plan.kv_format}
