"""A fleet with its draft models where they may stand: beside their targets, or on machines of their own."""

from dataclasses import replace

from loadtest.simulate.fleet import DraftSpec, FleetSpec, NodeSpec
from workers.engines.simulated.parameters import EngineParameters
from workers.engines.simulated.profile import ProfileError, read_profile
from workers.speculation.rounds import Drafting

STANDS = ("local", "remote")

ACCEPTANCE = {"azure-like": 0.55, "code-like": 0.8, "agent-like": 0.8}
"""Of a 1B's proposals by a 70B: 80% on code and structured output, 50 to 60% on other text (FACTS.md, decode speed)."""

OTHER = 0.55


def acceptance_of(draft: DraftSpec, traffic: str) -> float:
    """Chance of a proposal: the fleet file's, or by the kind of text."""
    return draft.acceptance or ACCEPTANCE.get(traffic, OTHER)


def drafted(fleet: FleetSpec, stand: str, traffic: str) -> FleetSpec:
    """The fleet with drafts at ``stand``; empty: as it is. A target that has no room for a draft beside it has none."""
    if not stand:
        return fleet
    nodes = list(fleet.nodes)
    for draft in fleet.drafts:
        places = [place for place, node in enumerate(nodes) if node.model == draft.target]
        for place in places:
            acceptance = acceptance_of(draft, traffic)
            nodes[place] = (
                _beside(nodes[place], draft, acceptance)
                if stand == "local"
                else _apart(nodes[place], draft, acceptance, len(places) / draft.count)
            )
    return replace(fleet, nodes=tuple(nodes))


def _apart(node: NodeSpec, draft: DraftSpec, acceptance: float, targets: float) -> NodeSpec:
    alone = draft.alone
    drafting = Drafting(
        acceptance=acceptance, base_s=alone.base_s, per_sequence_s=alone.per_sequence_s, targets=max(targets, 1.0),
        rtt_s=draft.rtt_s,
    )  # fmt: skip
    return replace(node, declared=replace(node.declared, drafting=drafting))


def _beside(node: NodeSpec, draft: DraftSpec, acceptance: float) -> NodeSpec:
    """On the target's own machine: its draft steps and its verification take turns, and its weights their room."""
    try:
        alone = read_profile(node.machine, quantization=draft.quantization, shape=draft.model).declared
    except ProfileError:
        return node
    declared, token_bytes = node.declared, node.instance.kv_bytes_per_token
    left = declared.kv_capacity_tokens - int(draft.weights_bytes / token_bytes)
    if left < declared.context_tokens:
        return node
    drafting = Drafting(acceptance=acceptance, base_s=alone.base_s, per_sequence_s=alone.per_sequence_s)
    return replace(
        node,
        declared=replace(declared, drafting=drafting, kv_capacity_tokens=left),
        instance=replace(node.instance, kv_capacity_tokens=left),
    )


def yields(parameters: EngineParameters, batch: int, context_tokens: int) -> tuple[int, float]:
    """Most proposals of a sequence among ``batch``, and how many times faster it then decodes; (0, 1): it is off."""
    rounds = parameters.rounds()
    if rounds is None:
        return 0, 1.0
    held = float(batch * context_tokens)
    done = rounds.round(batch, held)
    return max(rounds.lengths(batch, held)), done.tokens * parameters.decode_s(batch, held) / done.seconds
