"""The engines by name. A new one is a package with a specification, and a line here."""

from workers.engines.base import Engine, LoadError
from workers.engines.llama_cpp.spec import LlamaCpp
from workers.engines.openai_compatible.spec import OpenAICompatible
from workers.engines.simulated.spec import Simulated
from workers.engines.spec import EngineSpec
from workers.engines.vllm.spec import Vllm

_ALL: tuple[EngineSpec, ...] = (
    LlamaCpp(),
    Vllm(),
    OpenAICompatible(),
    Simulated(),
)

ENGINES: dict[str, EngineSpec] = {one.name: one for one in _ALL}

DEFAULT_ENGINE = _ALL[0].name

ENGINE_HELP = "; ".join(f"{one.name}: {one.serves}" for one in _ALL)


def engine_spec(name: str) -> EngineSpec:
    """The specification of this name. Raises LoadError for an unknown one."""
    if name not in ENGINES:
        raise LoadError(f"there is no engine {name!r}; choose one of {', '.join(ENGINES)}")
    return ENGINES[name]


def make_engine(name: str) -> Engine:
    """The engine of this name. Raises LoadError with one clear line for an unknown name or a missing package."""
    return engine_spec(name).make()
