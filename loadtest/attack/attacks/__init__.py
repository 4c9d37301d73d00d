"""Every attack, by name. Each runs in a process of its own, with its own event loop."""

from loadtest.attack.attacks.bodies import BODIES
from loadtest.attack.attacks.door import DOOR
from loadtest.attack.attacks.joining import JOINING
from loadtest.attack.attacks.store import STORE
from loadtest.attack.attacks.workers import WORKERS
from loadtest.attack.target import Attack

ATTACKS: tuple[Attack, ...] = (*DOOR, *BODIES, *WORKERS, *JOINING, *STORE)
"""In the order in which they are run."""


def named(name: str) -> Attack:
    """Raises KeyError."""
    return {one.name: one for one in ATTACKS}[name]
