"""What joining will do on a machine, take of it and keep on it: said to its owner before anything is done. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from protos.contract.worker import Hardware
from workers.engines.spec import EngineSpec
from workers.joining.home import Home

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPlan:
    """What was asked for. ``models``: their names and paths, empty where the choice is made later; ``needs_bytes``:
    what they take in memory, 0: not known.
    """

    address: str
    engine: EngineSpec
    hardware: Hardware
    home: Home
    log: str  # where its logs go
    models: Sequence[tuple[str, str]] = ()
    base_url: str = ""
    waits_for_models: bool = False
    needs_bytes: int = 0
    threads: int = 0  # that it computes on, where that is a processor; 0: the engine decides
    benchmark: str = "full"
    when: str = "always"
    battery_price_s: float = 0.0
    max_memory_bytes: int = 0  # by the owner; 0: no cap
    max_disk_bytes: int = 0
    keep_free_bytes: int = 0  # of the disk, by models that are fetched
    max_models_bytes: int = 0  # 0: no bound of its own
    shares: bool = True
    program: str = ""  # where this program lies, if the pasted line put it there
    auto_upgrade: bool = False
    drafts_at: str = ""  # where it listens as a draft; empty: it serves requests
    unit: str = ""  # the file that starts it after a reboot; empty: nothing does


def plan_lines(plan: JoinPlan) -> list[tuple[str, str]]:
    """What to say: a word in front, and the rest."""
    starts = f"after every reboot, by {plan.unit}" if plan.unit else "nothing by itself: Ctrl-C ends it"
    return [
        ("asks", f"{plan.address} for a certificate, then keeps a connection to each router; {_opens(plan)}"),
        ("drafts" if plan.drafts_at else "serves", _serves(plan)),
        ("memory", _memory(plan)),
        ("cores", _cores(plan)),
        ("keeps", f"{plan.home.state} (keys; logs: {plan.log})"),
        ("", f"{plan.home.cache} (what was measured)"),
        *((("", f"{plan.program} (this program)"),) if plan.program else ()),
        ("disk", f"{plan.max_disk_bytes / 2**20:.0f} MiB at most in both"),
        *(("models", line) for line in _models(plan)),
        ("when", _when(plan)),
        ("starts", starts),
        *([("becomes", "the version that the head hands out, by itself, streams first")] if plan.auto_upgrade else []),
        ("ends", "`allsorts pause` keeps it out for a while, `allsorts leave` takes all of this away"),
    ]


def _opens(plan: JoinPlan) -> str:
    """A draft is dialled by its targets; nobody else is."""
    if not plan.drafts_at:
        return "opens no port"
    return f"listens on {plan.drafts_at} for workers that a router pairs it with, over mutual TLS"


_WHEN = {
    "always": "always",
    "plugged-in": "plugged in and not in low-power mode; else what runs moves to other machines",
    "idle": "plugged in, not in low-power mode and not in use; else what runs moves to other machines",
}


def _when(plan: JoinPlan) -> str:
    """What is asked on battery is worth a word where the machine is open then."""
    if plan.when != "always" or not plan.battery_price_s or plan.base_url:
        return _WHEN[plan.when]
    return f"always; on battery only what is better off here by {plan.battery_price_s:g} s"


def _serves(plan: JoinPlan) -> str:
    if plan.base_url:
        names = ", ".join(name for name, _ in plan.models) or "every model it has"
        return f"{names}, through the server at {plan.base_url}"
    if plan.waits_for_models:
        also = "".join(f"{name}, " for name, _ in plan.models)
        return f"{also}what the fleet's operator has loaded of the files in {plan.home.models}"
    if not plan.models:
        return f"one of the models ({plan.engine.model_files or plan.engine.serves}) in {plan.home.models}"
    what = ", ".join(f"{name} from {path}" for name, path in plan.models)
    return f"{what}: proposes tokens to other workers, and answers no requests" if plan.drafts_at else what


def _models(plan: JoinPlan) -> list[str]:
    """What happens to models' files."""
    if plan.base_url or not plan.engine.model_files:
        return []
    up_to = f", {plan.max_models_bytes / GIB:.1f} GiB at most" if plan.max_models_bytes else ""
    come = f"come into {plan.home.models} as the operator orders{up_to}; {plan.keep_free_bytes / GIB:.1f} GiB stay free"
    go = "go to this pool's machines that lack them (--no-share: they stay here)" if plan.shares else "stay here"
    return [*([come] if plan.waits_for_models else []), go]


def _memory(plan: JoinPlan) -> str:
    if plan.base_url:
        return "a few hundred MB: the model is in that server"
    usable = plan.hardware.usable_memory_bytes
    of = f" of {usable / GIB:.1f} GiB that can be taken here" if usable else ""
    cap = f", at most {plan.max_memory_bytes / GIB:.1f} GiB" if plan.max_memory_bytes else ""
    if plan.needs_bytes:
        return f"{plan.needs_bytes / GIB:.1f} GiB{of}{cap}"
    return f"what the model takes{of}{cap}; one that does not fit is refused"


def _cores(plan: JoinPlan) -> str:
    measures = {"off": "", "quick": "; measures for four seconds first"}.get(
        plan.benchmark, "; measures for about 20 seconds first, once"
    )
    if plan.base_url:
        return "next to none" + measures
    if plan.hardware.kind != "cpu":
        return f"{plan.hardware.name} while requests run" + measures
    return f"{plan.threads or 'as the engine decides'} of {plan.hardware.cores} while requests run" + measures
