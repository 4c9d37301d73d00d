"""Command line: makes what is missing."""

import argparse
import sys
from pathlib import Path

import torch

from protos.contract.models.errors import BadModelFile
from tests.support.awq.make import make_awq
from workers.errors import WorkerError
from workers.models.smollm2 import PUBLIC_NAME


def main() -> int:
    """Write ``smollm2-135m-awq`` and ``smollm2-135m-fp16`` below ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.awq", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/models"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder, plain = (arguments.out / f"{PUBLIC_NAME}-{kind}" for kind in ("awq", "fp16"))
    if (folder / "config.json").exists() and (plain / "config.json").exists():
        return 0
    try:
        make_awq(folder, plain)
    except (WorkerError, BadModelFile) as error:
        print(f"awq: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
