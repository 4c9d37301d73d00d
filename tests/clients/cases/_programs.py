"""Load generators are programs: run them where this interpreter is, and read what they say."""

import os
import subprocess
import sys
from pathlib import Path


def run(name: str, *arguments: str, cwd: str, timeout_s: float = 200.0) -> str:
    """What it printed; raises when it fails."""
    command = [str(Path(sys.executable).with_name(name)), *arguments]
    # A tokenizer in a folder is a hub's to aiperf once the hub is said to be out of reach.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise AssertionError(f"{name} ended with {done.returncode}: {said[-800:]}")
    return said


def tokenizer(folder: str) -> str:
    """A tokenizer in a folder, as there is no hub to fetch one from: one token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(2000))]
    base = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    path = str(Path(folder) / "tokenizer")
    made = PreTrainedTokenizerFast(tokenizer_object=base, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    made.save_pretrained(path)
    return path
