"""Where one more copy of a model comes up: the best node and way, and what has to go for it."""

import math
from dataclasses import dataclass

from protos.contract.worker import InstanceState
from router.fleet.desired.values import DesiredModel
from router.fleet.planning.board import Board
from router.fleet.planning.observed import Copy, Node
from router.fleet.planning.starting import start_somewhere
from router.fleet.planning.steps import Load
from router.fleet.planning.ways import Way, ways, why_not_there

LATER = "later: "
"""A reason that begins so passes by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    node: Node
    way: Way
    victims: tuple[Copy, ...]

    @property
    def key(self) -> tuple[bool, float, bool, float]:
        """Nothing has to go before something has, then quality, then no travel, then room."""
        return bool(self.victims), self.way.rank, self.way.fetch, -(self.node.usable_bytes - self.node.held_bytes)


def bring_up(board: Board, model: DesiredModel, *, why: str) -> None:
    """One step towards one more copy: a load, or what must go before. Else the reason stands on the board."""
    demand = board.observed.demand.get(model.name)
    choices: list[_Choice] = []
    reasons: dict[str, str] = {}
    for node in board.observed.nodes:
        found = _on(board, model, node, 0.0 if demand is None else demand.oldest_s)
        if isinstance(found, str):
            reasons[node.node] = found
        else:
            choices.append(found)
    best = min(choices, key=lambda one: one.key, default=None)
    if best is None or best.victims:  # before anything has to go for it
        elsewhere = start_somewhere(board, model, why=why)
        if board.observed.ray_nodes and not elsewhere:
            return
        reasons |= elsewhere
    if best is None:
        _note(board, model.name, reasons)
        return
    if best.victims:
        board.unload(best.node, best.victims[0], f"makes room for {model.name}")
        board.waiting[model.name] = f"{best.node.node} makes room first"
        return
    board.load(
        Load(
            worker_id=best.node.worker_id,
            node=best.node.node,
            model=model.name,
            quantization=best.way.quantization,
            file=best.way.file,
            context_tokens=model.context,
            slots=model.slots,
            order=best.way.order,
            needs_bytes=best.way.needs_bytes,
            why=why,
            urgent=demand is not None,
            sources=best.way.sources,
        )
    )


def _on(board: Board, model: DesiredModel, node: Node, waited_s: float) -> _Choice | str:
    """The best way on one node, or why there is none."""
    if why_not := why_not_there(model, node):
        return why_not
    if not node.available:
        return f"{LATER}it is away, or takes no work"
    if not board.free(node):
        return f"{LATER}it is changing something else"
    held = {one.instance.quantization for one in node.copies if one.model == model.name and _stands(one)}
    found = ways(model, node, board.known, travels=board.observed.travels)
    if not found:
        return "has no file of it"
    why = ""
    choices = []
    for way in found:
        if way.quantization in held:
            why = why or "holds it already"
            continue
        if (wait := board.backing_off(node, model.name, way.quantization)) > 0.0:
            why = why or f"{LATER}loading failed there; again in {wait:.0f} s"
            continue
        room = _room(board, node, way, waited_s)
        if isinstance(room, str):
            why = room if not why or room.startswith(LATER) else why
            continue
        choices.append(_Choice(node=node, way=way, victims=room))
    return min(choices, key=lambda one: one.key) if choices else why


def _room(board: Board, node: Node, way: Way, waited_s: float) -> tuple[Copy, ...] | str:
    if node.held_bytes + way.needs_bytes <= node.usable_bytes:
        return ()
    if not math.isfinite(way.needs_bytes):
        return f"too little is known of {way.file} to say whether it fits"
    if way.needs_bytes > node.usable_bytes:
        return f"{way.quantization} needs {way.needs_bytes / 2**30:.2f} GiB of {node.usable_bytes / 2**30:.2f}"
    victims = board.victims(node, way.needs_bytes, for_s=waited_s)
    return victims if isinstance(victims, str) else tuple(victims)


def _stands(copy: Copy) -> bool:
    return copy.instance.state is not InstanceState.FAILED


def _note(board: Board, model: str, reasons: dict[str, str]) -> None:
    """Blocked where no reason passes by itself."""
    if not reasons:
        board.blocked[model] = "no worker is in the pool"
        return
    told = "; ".join(f"{node}: {why.removeprefix(LATER)}" for node, why in list(reasons.items())[:4])
    more = f"; and {len(reasons) - 4} more" if len(reasons) > 4 else ""
    passing = any(why.startswith(LATER) for why in reasons.values())
    (board.waiting if passing else board.blocked)[model] = told + more
