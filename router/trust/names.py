"""Names of machines and workers that may stand in tables, logs and certificates."""

import re
import secrets

from protos.contract.ids import WorkerId
from protos.contract.validation import MAX_NAME

ID_NAME_LENGTH = 50
"""Characters of a node's name in its worker id: the id is a certificate's common name, of which X.509 keeps 64."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def clean_node_name(name: str) -> str:
    """A machine's name as it may appear in tables and logs: letters, digits, dot, dash; never empty."""
    found = _NAME.match(re.sub(r"[^A-Za-z0-9_.-]+", "-", name[:MAX_NAME]).strip("-._"))
    return found.group() if found else "node"


def new_worker_id(node: str) -> WorkerId:
    """An id that carries the node's name (its beginning, if it is long) and 48 random bits."""
    return WorkerId(f"{node[:ID_NAME_LENGTH].rstrip('-._')}-{secrets.token_hex(6)}")
