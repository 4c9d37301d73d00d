"""Which format to run: the decision matrix as code that says why.

Sources: the decision matrix, "When Not to Quantize" and the format table of the seed (FACTS.md, "Decision matrix");
throughput of formats on H100, A100 and RTX 4090 (FACTS.md, "Decode speed", GPUStack). Every rule that speaks leaves
a sentence; what was passed over keeps its reason too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from protos.contract.models.model_shape import ModelShape
from protos.contract.models.quality import SMALL_PARAMETERS, at_least
from router.capacity.chips import MemoryKind
from router.capacity.fit import FitResult
from router.capacity.machines import GIB, Machine
from router.capacity.options import Option, runnable


class Purpose(StrEnum):
    """What it is for."""

    PRODUCTION = "production"
    LOCAL = "local"  # one person's machine, or research
    EXPERIMENT = "experiment"  # try any model at once, nothing prepared


COMFORTABLE_TOKENS_PER_S = 10.0
"""TPOT of 100 ms: what counts as in time everywhere in this project."""
SHOWN_DECIMALS = 1
"""Of speeds, in tables and in reasons: what is shown as 10.0 counts as 10.0."""
AMPLE_SHARE = 0.5
"""Full precision is chosen over four bits for throughput only while its weights leave this share to the KV cache."""
SERVING_BATCH = 8
"""Sequences of the asked context that must fit together before 8 or 16 bits are worth serving: throughput is batch."""
_LADDER = ("q8_0", "q6_k", "q5_k_m", "q4_k_m")
_LAST_RESORTS = ("q3_k_m", "q2_k", "iq2_m")
_WHOLE = ("bf16", "fp16", "fp32")
_FOUR_BITS = ("awq", "gptq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked. ``quality_first``: medical, legal and the like, where no average stands for the case at hand."""

    shape: ModelShape
    machine: Machine
    options: tuple[Option, ...]
    purpose: Purpose = Purpose.PRODUCTION
    quality_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatChoice:
    """``option`` None: nothing here should be run; the reasons say what would help."""

    option: Option | None
    reasons: tuple[str, ...]
    passed_over: tuple[tuple[str, str], ...] = ()  # format, why


def comfortable(tokens_per_s: float) -> bool:
    """Whether it writes as fast as one reads, by the figure as it is shown."""
    return round(tokens_per_s, SHOWN_DECIMALS) >= COMFORTABLE_TOKENS_PER_S


def choose_format(question: Question) -> FormatChoice:
    """The first rule that finds something that fits wins."""
    rules = _Rules(question)
    choice, reasons = rules.first()
    return FormatChoice(option=choice, reasons=reasons, passed_over=_passed_over(question.options, choice))


_Answer = tuple[Option | None, tuple[str, ...]]


class _Rules:
    def __init__(self, question: Question) -> None:
        self._shape, self._machine = question.shape, question.machine
        self._purpose, self._quality_first = question.purpose, question.quality_first
        self._all = question.options
        self._fitting = runnable(question.options)

    def first(self) -> _Answer:
        if self._quality_first:
            return self._unquantized()
        small = self._small() if self._shape.parameters < SMALL_PARAMETERS else None
        if small is not None:
            return small
        if self._purpose is Purpose.EXPERIMENT and self._machine.accelerated:
            tried = self._pick("nf4")
            if tried:
                return tried, ("an experiment: bitsandbytes quantizes any model while loading, nothing to prepare",)
        if self._machine.accelerated and self._purpose is not Purpose.LOCAL:
            served = self._gpu_serving()
            if served is not None:
                return served
        return self._gguf()

    # -- when not to quantize

    def _unquantized(self) -> _Answer:
        best = self._pick(*_WHOLE)
        if best:
            return best, ("quality comes first and full precision fits: not quantized",)
        eight = [one for one in self._fitting if at_least(one.format.name, "q8_0")]
        if eight:
            chosen = max(eight, key=lambda one: one.tokens_per_s)
            return chosen, (
                (
                    f"quality comes first: full precision does not fit ({self._missing(_WHOLE)}), 8 bits lose next to "
                    "nothing; evaluate on your own prompts before relying on it"
                ),
            )
        return None, (
            (
                f"quality comes first and neither full precision nor 8 bits fit ({self._missing((*_WHOLE, 'q8_0'))}): "
                "a larger machine or a smaller model, rather than fewer bits"
            ),
        )

    def _small(self) -> _Answer | None:
        size = f"{self._shape.parameters / 1e9:.2g}B parameters"
        why = f"{size}: under 7B, four bits lose 2-3% or more"
        whole, eight = self._pick(*_WHOLE), self._pick("q8_0")
        if whole and (self._machine.accelerated or not eight):
            return whole, (f"{why}, and full precision fits: not quantized",)
        if eight:
            return eight, (f"{why}; Q8_0 loses next to nothing and decodes nearly twice as fast as 16 bits here",)
        return None

    # -- GPUs that serve

    def _gpu_serving(self) -> _Answer | None:
        chip, devices = self._machine.chip, self._machine.devices
        where = f"{devices} GPUs" if devices > 1 else "one GPU"
        eight = self._served("fp8")
        if eight and self._roomy(eight) and chip is not None and chip.native_fp8 and chip.memory_kind is MemoryKind.HBM:
            return eight, (
                (
                    f"{where} with native FP8: more throughput than 16 bits or AWQ there (H100: 16453, 13305 and 9756 "
                    "tokens/s), and next to no loss"
                ),
            )
        whole = self._served("fp16", "bf16")
        if whole and self._ample(whole) and chip is not None and chip.memory_kind is MemoryKind.HBM:
            return whole, (
                (
                    f"{where}, and 16 bits leave at least half the memory to the KV cache: memory is not short, so "
                    "quantizing would gain nothing (A100: 10338 tokens/s at 16 bits, 9612 with AWQ)"
                ),
            )
        four = self._served(*_FOUR_BITS)
        if four:
            rule = "production on 2 or more GPUs" if devices > 1 else "one GPU, and four bits fit"
            return four, (f"{rule}: {four.format.name.upper()} on vLLM; {self._why_four(whole)}",)
        return None

    def _why_four(self, whole: Option | None) -> str:
        """By what stands against 16 bits here: memory, room for a batch, or bandwidth."""
        figures = "(RTX 4090: 5653 tokens/s with AWQ, 3869 at 16 bits)"
        if whole is None:
            return f"16 bits do not fit, and memory saved is throughput {figures}"
        taken, usable = (bytes_ / GIB for bytes_ in (whole.fit.memory.weights_bytes, whole.fit.memory.usable_bytes))
        if not self._ample(whole):
            return (
                f"16 bits fit, but take {taken:.0f} of {usable:.0f} GiB from the KV cache, so from the batch {figures}"
            )
        return (
            f"16 bits leave room too, but decode reads all weights at every step, and four bits are a quarter {figures}"
        )

    def _roomy(self, one: Option) -> bool:
        return one.fit.largest_batch >= SERVING_BATCH

    def _ample(self, one: Option) -> bool:
        return self._roomy(one) and one.fit.memory.weights_bytes <= (1 - AMPLE_SHARE) * one.fit.memory.usable_bytes

    # -- GGUF

    def _gguf(self) -> _Answer:
        where = self._gguf_where()
        ladder = [one for name in _LADDER if (one := self._pick(name))]
        quick = next((one for one in ladder if comfortable(one.tokens_per_s)), None)
        if quick is not None:
            return quick, (where, self._why_quick(quick, ladder))
        if ladder:
            chosen = ladder[-1]
            return chosen, (
                where,
                (
                    f"no format of four bits or more writes {COMFORTABLE_TOKENS_PER_S:.0f} tokens/s here; the smallest "
                    f"of them is the fastest, with {chosen.tokens_per_s:.{SHOWN_DECIMALS}f}"
                ),
            )
        offloaded = self._offloaded()
        if offloaded is not None:
            return offloaded, (
                "no four-bit format fits the GPU: GGUF with some layers in the host's memory (or split over more GPUs)",
                offloaded.fit.reason,
            )
        for name in _LAST_RESORTS:
            low = self._pick(name)
            if low:
                return low, (
                    where,
                    (
                        f"only {low.format.name.upper()} fits: it loses about {low.loss:.0%} perplexity, which shows; "
                        "a smaller model at more bits is likely better"
                    ),
                )
        return None, (f"nothing fits ({self._missing(('q2_k', 'q4_k_m'))}): a smaller model, or a larger machine",)

    def _gguf_where(self) -> str:
        if self._machine.hardware.kind == "apple":
            return "a Mac: GGUF on llama.cpp's Metal backend"
        if self._machine.accelerated:
            return "GGUF on llama.cpp: " + (
                "a local machine" if self._purpose is Purpose.LOCAL else "no four-bit safetensors format fits the GPU"
            )
        return "no GPU: GGUF on llama.cpp, on the processor"

    def _why_quick(self, chosen: Option, ladder: Sequence[Option]) -> str:
        name, rate = chosen.format.name.upper(), chosen.tokens_per_s
        if chosen is ladder[0] and chosen.format.name == "q8_0":
            return f"{name} fits, loses next to nothing and writes {rate:.0f} tokens/s: no reason for fewer bits"
        better = [one for one in ladder if one.loss < chosen.loss]
        slow = f"; {better[-1].format.name.upper()} would write {better[-1].tokens_per_s:.1f}" if better else ""
        return f"{name} is the best that fits and writes {COMFORTABLE_TOKENS_PER_S:.0f} tokens/s ({rate:.1f}){slow}"

    def _offloaded(self) -> Option | None:
        held = [one for one in self._all if one.fit.result is FitResult.OFFLOADS and one.format.name == "q4_k_m"]
        return held[0] if held else None

    def _pick(self, *names: str) -> Option | None:
        return next((one for name in names for one in self._fitting if one.format.name == name), None)

    def _served(self, *names: str) -> Option | None:
        """Of an engine made for many at once."""
        found = self._pick(*names)
        return found if found is not None and found.engine.serves_many else None

    def _missing(self, names: Iterable[str]) -> str:
        wanted = [one for name in names for one in self._all if one.format.name == name and not one.fit.runs]
        short = [one for one in wanted if one.fit.result is FitResult.TOO_LARGE]
        if not short:
            return "none is offered here"
        least = min(short, key=lambda one: -one.fit.memory.left_bytes)
        return f"{least.format.name.upper()} lacks {-least.fit.memory.left_bytes / GIB:.0f} GiB"


def _passed_over(found: Sequence[Option], choice: Option | None) -> tuple[tuple[str, str], ...]:
    rest = []
    for one in found:
        if choice is not None and one.format.name == choice.format.name:
            continue
        if not one.fit.runs:
            rest.append((one.format.name, one.fit.reason))
        elif choice is not None and one.loss > choice.loss:
            rest.append((one.format.name, f"loses {one.loss - choice.loss:.1%} more perplexity"))
        elif choice is not None and one.tokens_per_s < choice.tokens_per_s:
            rest.append((one.format.name, f"{one.tokens_per_s:.1f} tokens/s against {choice.tokens_per_s:.1f}"))
    return tuple(rest)
