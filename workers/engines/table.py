"""The engines by name. Each is imported when it is asked for, so that a Mac needs none of the others."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

from workers.engines.base import Engine, LoadError
from workers.engines.option_values import LLAMA_THREADS
from workers.facts import Hardware

EngineFactory = Callable[[], Engine]


def _lazy(module: str, name: str, needs: str) -> EngineFactory:
    def make() -> Engine:
        try:
            factory: EngineFactory = getattr(import_module(module), name)
        except ModuleNotFoundError as missing:
            if (missing.name or "").partition(".")[0] == "workers":
                raise
            raise LoadError(f"the package {missing.name} is not installed: {needs}") from None
        return factory()

    return make


ENGINES: dict[str, EngineFactory] = {
    "llama.cpp": _lazy("workers.engines.llama_cpp.engine", "LlamaCppEngine", "pip install 'allsorts[llama]'"),
    "vllm": _lazy("workers.engines.vllm.engine", "VllmEngine", "pip install 'allsorts[vllm]'"),
    "openai": _lazy("workers.engines.openai_compatible.engine", "OpenAICompatibleEngine", "pip install allsorts"),
    "simulated": _lazy("workers.engines.simulated.engine", "SimulatedEngine", "pip install allsorts"),
}


def with_threads(hardware: Hardware, name: str, asked: int) -> Hardware:
    """A processor together with how many threads this engine computes on it; other hardware as it is."""
    threads = asked or (LLAMA_THREADS if name == "llama.cpp" else 0)
    if hardware.kind != "cpu" or not threads:
        return hardware
    return replace(hardware, details={**hardware.details, "threads": str(threads)})


def accelerates(name: str) -> bool:
    """Whether this engine, as it is installed here, computes on the machine's GPU; true when that cannot be told."""
    try:
        if name == "llama.cpp":
            return bool(import_module("llama_cpp").llama_supports_gpu_offload())
        if name == "vllm":
            return "cpu" not in import_module("vllm").__version__
    except (ImportError, OSError, AttributeError):
        return True
    return True


def make_engine(name: str) -> Engine:
    """The engine of this name. Raises LoadError with one clear line for an unknown name or a missing package."""
    if name not in ENGINES:
        raise LoadError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
    return ENGINES[name]()
