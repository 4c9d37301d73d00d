"""What the worker knows of the toy before one is made."""

from collections.abc import Iterable
from pathlib import Path

from protos.contract.worker import Capabilities, ModelInstance
from workers.engines.base import LoadError
from workers.engines.spec import EngineSpec

CONTEXT_TOKENS = 512


class Toy(EngineSpec):
    """Its models are text files: the alphabet they write with."""

    name = "toy"
    serves = "alphabets"
    factory = "tests.support.toy_engine.engine:ToyEngine"
    model_files = "*.toy"

    def check(self, path: str) -> None:
        alphabet_in(Path(path))

    def find_models(self, folder: Path) -> Iterable[Path]:
        return folder.rglob("*.toy")

    def read_model(self, path: Path) -> ModelInstance:
        return ModelInstance(
            model=path.stem,
            quantization=f"q{len(alphabet_in(path))}",
            format="toy",
            context_tokens=CONTEXT_TOKENS,
            slots=4,
            capabilities=Capabilities(can_load=True),
            parameters=len(alphabet_in(path)),
            file=path.name,
        )


def alphabet_in(path: Path) -> str:
    """Raises LoadError."""
    try:
        return path.read_text().strip() or "?"
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}; a toy's model is a text file") from None
