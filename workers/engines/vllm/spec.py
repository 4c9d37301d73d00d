"""vLLM before it is loaded: folders as Hugging Face keeps them."""

from collections.abc import Iterator
from pathlib import Path

from protos.contract.worker import ModelInstance
from workers.engines.spec import EngineSpec
from workers.engines.vllm.config_facts import read_folder

MAX_FOLDERS = 1_000


class Vllm(EngineSpec):
    """Folders with config.json and safetensors; a path may also name a repository of a hub."""

    name = "vllm"
    serves = "Hugging Face folders"
    factory = "workers.engines.vllm.engine:VllmEngine"
    extra = "vllm"
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
        facts = read_folder(path)
        return ModelInstance(
            model=path.name,
            quantization=facts.quantization,
            format=facts.format,
            context_tokens=facts.context_tokens,
            bits_per_weight=facts.bits_per_weight,
            weights_bytes=facts.weights_bytes,
            parameters=facts.parameters,
            active_parameters=facts.active_parameters,
            layers=facts.layers,
            kv_heads=facts.kv_heads,
            head_dim_k=facts.head_dim,
            head_dim_v=facts.head_dim,
            kv_bytes_per_token=4 * facts.layers * facts.kv_heads * facts.head_dim,  # keys and values of 16 bits
            lineage=facts.lineage,
            file=path.name,
        )
