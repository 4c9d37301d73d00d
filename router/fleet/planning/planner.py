"""The next steps from what there is to what is wanted. State in, steps out; called again after every change.

What it keeps to, whatever happens (``tests/property/test_fleet_planner.py``): it comes to an end; a model that has the
copies it must have keeps them through every change; no node is given more than its memory, by ``router.capacity``; a
node makes one change at a time; what failed is tried again later and later; what an owner chose is left alone.
"""

from router.fleet.desired.values import DesiredModel, DesiredState
from router.fleet.planning.board import Board, model_of_worker
from router.fleet.planning.observed import COMING, Copy, Node, Observed
from router.fleet.planning.placing import bring_up
from router.fleet.planning.steps import Plan

CROWDED_S = 5.0
"""Requests that waited so long for a model whose copies are all busy bring up one more, as far as ``max`` goes."""


def plan(desired: DesiredState, observed: Observed) -> Plan:
    """What to do now. ``waiting`` models are looked at again; nothing needs to change for that but time."""
    board = Board(desired, observed)
    _let_go_what_nobody_wants(board)
    for model in sorted(desired.models, key=lambda one: _urgency(board, one)):
        _settle(board, model)
    return board.plan()


def _urgency(board: Board, model: DesiredModel) -> tuple[bool, float, int]:
    """Who waits goes first, the longest first; then in the file's order."""
    demand = board.observed.demand.get(model.name)
    return demand is None, 0.0 if demand is None else -demand.oldest_s, board.desired.models.index(model)


def _let_go_what_nobody_wants(board: Board) -> None:
    wanted = {one.name for one in board.desired.models}
    for node in board.observed.nodes:
        for copy in node.copies:
            if copy.model not in wanted and _may_change(board, node, copy):
                board.unload(node, copy, "is not in the file")
    for worker in board.observed.ray_workers:
        if not worker.alive:
            board.stop(worker.name, worker.reason or "it ended")
        elif model_of_worker(worker.name) not in wanted and not board.joined(worker.name):
            board.stop(worker.name, "is not in the file")


def _settle(board: Board, model: DesiredModel) -> None:
    copies = list(board.copies(model.name))
    good = [(node, copy) for node, copy in copies if node.available and copy.ready and board.good(model, node, copy)]
    stale = [(node, copy) for node, copy in copies if copy.instance.ordered and not board.good(model, node, copy)]
    coming = board.coming(model.name)
    target = _target(board, model, len(good))
    if len(good) + coming < target:
        bring_up(board, model, why=_why(board, model))
    _let_go_stale(board, model, stale)
    if not stale:
        _let_go_surplus(board, model, good)


def _target(board: Board, model: DesiredModel, good: int) -> int:
    demand = board.observed.demand.get(model.name)
    if demand is None:
        return model.copies.min
    crowded = good + 1 if demand.oldest_s >= CROWDED_S else good
    return max(model.copies.min, min(max(1, crowded), model.copies.max))


def _why(board: Board, model: DesiredModel) -> str:
    demand = board.observed.demand.get(model.name)
    if demand is not None:
        waiting = "1 request waits" if demand.waiting == 1 else f"{demand.waiting} requests wait"
        return f"{waiting} for it"
    return f"{model.copies.min} must be there" if model.copies.min > 1 else "one must be there"


def _let_go_stale(board: Board, model: DesiredModel, stale: list[tuple[Node, Copy]]) -> None:
    """Loaded otherwise than the file says by now: one goes as soon as enough are left."""
    for node, copy in stale:
        if not _may_change(board, node, copy):
            continue
        if board.spare(copy, node):
            misplaced = board.misplaced(model, node)
            why = f"its node {misplaced}" if misplaced else "was loaded otherwise than the file says now"
            board.unload(node, copy, why)
        else:
            board.waiting.setdefault(model.name, f"{node.node} is loaded anew once another copy serves")
    if board.blocked.get(model.name) and stale:
        board.blocked[model.name] += "; so the copies there are stay as they were loaded"
        board.waiting.pop(model.name, None)


def _let_go_surplus(board: Board, model: DesiredModel, good: list[tuple[Node, Copy]]) -> None:
    """Above ``max`` at once; above ``min`` when nobody used it for as long as the file, or a client, says."""
    mine = sorted(
        ((node, copy) for node, copy in good if _may_change(board, node, copy)), key=lambda pair: -pair[1].unused_s
    )
    idle_s = board.observed.keep_alive.get(model.name, model.idle_s)
    surplus = len(good) - model.copies.max
    for node, copy in mine:
        if copy.running or model.name in board.observed.demand or not board.spare(copy, node):
            continue
        if copy.resident_s < board.desired.rules.residence_s:
            board.due(board.desired.rules.residence_s - copy.resident_s)
            continue
        if surplus > 0:
            surplus -= 1
            board.unload(node, copy, f"is one more than {model.copies.max}")
        elif not model.pin and copy.unused_s >= idle_s:
            board.unload(node, copy, f"nobody used it for {copy.unused_s:.0f} s", idle_s=idle_s)
        elif not model.pin:
            board.due(idle_s - copy.unused_s)


def _may_change(board: Board, node: Node, copy: Copy) -> bool:
    """Only what a router ordered, on a node that is there and changes nothing else."""
    loading = copy.instance.state in COMING
    ours = node.takes_models or bool(board.runs_there(node))
    return bool(copy.instance.ordered) and not loading and ours and node.available and board.free(node)
