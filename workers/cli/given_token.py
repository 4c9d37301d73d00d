"""A join token as it was given: itself, or from where nobody else on this machine can read it.

What stands on a command line stands in the process list, for everybody, for as long as the process runs.
"""

import getpass
import sys
from pathlib import Path

from protos.contract.joining.join_token import BadToken

FROM_STDIN = "-"
FROM_FILE = "@"
HELP = "The join token; - reads it from standard input, @FILE from a file"
MAX_CHARS = 4096


def given_token(text: str) -> str:
    """The token's text. Raises BadToken, or OSError for a file that cannot be read."""
    if text == FROM_STDIN:
        given = getpass.getpass("join token: ") if sys.stdin.isatty() else sys.stdin.readline(MAX_CHARS)
    elif text.startswith(FROM_FILE):
        with Path(text.removeprefix(FROM_FILE)).expanduser().open(encoding="utf-8") as file:
            given = file.readline(MAX_CHARS)
    else:
        return text
    if not given.strip():
        raise BadToken("no join token came; `allsorts token create` on the head makes one")
    return given.strip()
