"""Why vLLM's core process did not start: its log goes to a file, and the file's last exception is the reason."""

import json
import re
from pathlib import Path

_ERROR = re.compile(r"(?:^|\] |\) )((?:[A-Za-z_]+\.)*[A-Z][A-Za-z]*(?:Error|Exception|Interrupt))(?:: (.*))?$")
_VAGUE = ("Engine core initialization failed", "WorkerProc initialization failed", "cancelled")
TAIL_BYTES = 256 * 1024

_LISTS = re.compile(r"[.;]? (?:Must be one of|Supported dtypes:|Supported quantization|The available parameters).*")
_WRAPPED = re.compile(r"^Worker failed with error '(.*)', please check the stack trace.*$")
_REFUSED = r"(?:unknown|unsupported|not (?:currently )?supported)"
_UNSUPPORTED = re.compile(rf"(?i){_REFUSED}.*quantization|quantization.*{_REFUSED}")
_MEMORY = re.compile(
    r"(?i)(?:out of|not enough|insufficient|can(?:no|')t allocate|no available) memory|bad_alloc|: -9\b"
)
"""-9: the system killed the core, which it does to the largest process when memory runs out."""


def logging_config(folder: Path) -> Path:
    """Write a logging configuration that sends vLLM's warnings to ``folder``; returns the file for
    VLLM_LOGGING_CONFIG_PATH.
    """
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
        "handlers": {
            "file": {
                "class": "logging.FileHandler",
                "formatter": "plain",
                "level": "WARNING",
                "filename": str(log_file(folder)),
                "delay": True,
            }
        },
        "loggers": {"vllm": {"handlers": ["file"], "level": "WARNING", "propagate": False}},
    }
    path = folder / "logging.json"
    path.write_text(json.dumps(config))
    return path


def log_file(folder: Path) -> Path:
    """Where the warnings go."""
    return folder / "vllm.log"


def root_cause(text: str) -> str:
    """The last exception in a log that says something, in one line; empty when there is none."""
    found = ""
    for line in text.splitlines():
        match = _ERROR.search(line.strip())
        if match is None or not (match[2] or "").strip() or any(vague in match[2] for vague in _VAGUE):
            continue
        found = match[2].strip()
    return found


def reason_in(folder: Path, since: int) -> str:
    """The root cause in the part of the log written after byte ``since``."""
    file = log_file(folder)
    if not file.exists():
        return ""
    with file.open("rb") as opened:
        opened.seek(max(since, file.stat().st_size - TAIL_BYTES))
        return root_cause(opened.read().decode("utf-8", "replace"))


def plainly(reason: str, quantization: str) -> str:
    """VLLM's reason in one line that ends with what to do, where that is known."""
    short = _LISTS.sub("", _WRAPPED.sub(r"\1", " ".join(reason.split())))
    if _UNSUPPORTED.search(short):
        return (
            f"unsupported quantization {quantization}: {short}; this vLLM takes it on other hardware or not at all: "
            "choose AWQ, GPTQ, FP8, compressed-tensors or plain weights"
        )
    if _MEMORY.search(short):
        return f"not enough memory: {short}; lower kv_gib, context or slots, or choose a smaller quantization"
    return f"vLLM cannot load it: {short}"
