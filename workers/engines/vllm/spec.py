"""vLLM before it is loaded: folders as Hugging Face keeps them."""

from collections.abc import Iterator
from pathlib import Path

from protos.contract.models.instance import instance_of
from protos.contract.worker import ModelInstance
from workers.engines.spec import EngineSpec
from workers.engines.vllm.folder import read_folder

MAX_FOLDERS = 1_000


class Vllm(EngineSpec):
    """Folders with config.json and safetensors; a path may also name a repository of a hub."""

    name = "vllm"
    serves = "Hugging Face folders"
    factory = "workers.engines.vllm.engine:VllmEngine"
    extra = "vllm"
    module = "vllm"
    model_files = "folders with config.json and *.safetensors"

    def accelerates(self) -> bool:
        """Unless it is the build for processors."""
        try:
            import vllm

            return "cpu" not in vllm.__version__
        except (ImportError, OSError, AttributeError):
            return True

    def find_models(self, folder: Path) -> Iterator[Path]:
        """Folders that hold weights beside their config.json."""
        found = 0
        for config in folder.rglob("config.json"):
            if next(config.parent.glob("*.safetensors"), None) is not None:
                yield config.parent
                found += 1
            if found >= MAX_FOLDERS:
                return

    def read_model(self, path: Path) -> ModelInstance:
        """What config.json and the weights' headers tell."""
        found = read_folder(path)
        return instance_of(found.shape, model=path.name, file_format=found.stated.method, file=path.name)
