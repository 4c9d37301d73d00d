"""Files that a router may have loaded: told by name, found by name."""

from pathlib import Path

from protos.contract.worker import InstanceState
from tests.support.tiny_models import dense
from workers.engines.llama_cpp.spec import LlamaCpp
from workers.serving.local_files import LocalFiles


def test_files_are_told_by_what_their_headers_say(tmp_path: Path) -> None:
    """What cannot be read is left out, and found again once it is whole; what is named otherwise is a path."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    made = dense(folder).rename(folder / "tiny-f16.gguf")
    (folder / "broken.gguf").write_bytes(b"GGUF")
    files = LocalFiles(LlamaCpp(), tmp_path / "models")
    assert files.reports == ()
    files.look()
    (told,) = files.reports
    assert (told.model, told.file, told.state) == ("tiny", "tiny-f16.gguf", InstanceState.UNLOADED)
    assert told.layers == 4
    assert told.weights_bytes
    assert files.path_of("tiny-f16.gguf") == str(made)
    assert files.path_of("/elsewhere/x.gguf") == "/elsewhere/x.gguf"
