"""A GGUF file as its owner named it: the model's shape, or one line with what llama.cpp needs instead."""

from dataclasses import replace
from pathlib import Path

from protos.contract.grammar import GrammarKind
from protos.contract.models.errors import BadModelFile
from protos.contract.models.gguf.model import read_gguf
from protos.contract.models.instance import instance_of
from protos.contract.models.model_shape import ModelShape
from protos.contract.worker import Capabilities, ModelInstance
from workers.engines.base import LoadError, ModelSpec
from workers.engines.llama_cpp.options import Options

CAPABILITIES = Capabilities(
    can_continue=True,
    can_score=True,
    can_embed=True,
    logprobs=True,
    seed=True,
    can_load=True,
    publishes_cache=True,
    prompt_logprobs=True,
    grammars=tuple(GrammarKind),
)


def read_model(path: Path) -> ModelShape:
    """From the header of ``path`` and of the other parts of a split model. Raises LoadError."""
    if not path.exists():
        raise LoadError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise LoadError(f"{path}: is a folder; llama.cpp needs the .gguf file inside it{_beside(path)}")
    try:
        return read_gguf(path)
    except BadModelFile as error:
        raise LoadError(f"{error.path}: {error.problem}; {_remedy(error)}") from None


def loaded_with(shape: ModelShape, spec: ModelSpec, options: Options) -> ModelInstance:
    """The model as its worker reports it, but for what only the loaded vocabulary tells."""
    return replace(
        instance_of(shape, model=spec.name, file_format="gguf", file=spec.path.rpartition("/")[2]),
        quantization=shape.quantization or spec.quantization,
        context_tokens=options.context_tokens,
        slots=options.slots,
        capabilities=CAPABILITIES,
        kv_capacity_tokens=options.slots * options.context_tokens,
    )


def _beside(folder: Path) -> str:
    """What the folder offers instead: its GGUF files, or the engine that takes such a folder."""
    files = sorted(one.name for one in folder.glob("*.gguf"))[:3]
    if files:
        return f" ({', '.join(files)})"
    return " (it holds a Hugging Face model: --engine vllm takes it)" if (folder / "config.json").exists() else ""


def _remedy(error: BadModelFile) -> str:
    if not error.problem.startswith("not a GGUF"):
        return error.remedy
    if error.path.suffix in (".safetensors", ".bin", ".pt", ".pth"):
        return "llama.cpp needs a .gguf file; --engine vllm takes the folder of this one"
    return "llama.cpp needs a .gguf file"
