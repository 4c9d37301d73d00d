"""Rule: a worker computes on the cores and takes the memory that its machine's other workers leave, within its caps."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from protos.contract.worker import Hardware, Profile
from workers.config import WorkerConfig
from workers.engines.base import ModelSpec
from workers.engines.llama_cpp.spec import LlamaCpp
from workers.engines.spec import EngineSpec
from workers.engines.table import engine_spec
from workers.joining.neighbourhood import Neighbourhood
from workers.neighbours.place import VARIABLE

CPU = Hardware(kind="cpu", name="AMD EPYC", memory_bytes=2**34, cores=16, details={"physical_cores": "8"})


class AllCores(LlamaCpp):
    """As llama.cpp, on every core unless told otherwise."""

    default_threads = 8


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "machine"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return


def among(engine: EngineSpec, hardware: Hardware = CPU, **settings: Any) -> "closing[Neighbourhood]":
    return closing(Neighbourhood(WorkerConfig(node="mine", **settings), engine, hardware))


def threads(near: Neighbourhood, hardware: Hardware = CPU) -> tuple[int, str]:
    """As the engine is told, and as the router hears."""
    config, profile = near.agreed(Profile(node="mine", hardware=hardware, engine="llama.cpp"))
    return config.threads, profile.hardware.details.get("threads", "")


def test_the_second_worker_computes_on_what_the_first_leaves() -> None:
    """Physical cores, counted once; whoever says how many gets them."""
    engine = AllCores()
    with among(engine, max_cores=6) as first, among(engine) as second, among(engine, threads=4) as third:
        assert threads(first) == (6, "6")
        assert threads(second) == (8, "4")  # half, and as many as are left once it looks again
        assert threads(third) == (4, "4")
    with among(engine) as alone:
        assert threads(alone) == (8, "8")


def test_who_asks_keeps_its_threads_and_who_does_not_is_told_to_look() -> None:
    """The engine's option says which."""
    with among(AllCores(), threads=3) as asks, among(AllCores()) as shares:
        profile = Profile(node="mine", hardware=CPU, engine="llama.cpp")
        assert "share_cores" not in asks.agreed(profile)[0].options
        assert shares.agreed(profile)[0].options["share_cores"] is True


def test_who_computes_elsewhere_takes_no_cores_and_no_turns() -> None:
    """A card's worker leaves the processor to others; a simulated machine and a server elsewhere are not here."""
    card = Hardware(kind="nvidia", name="NVIDIA H100", memory_bytes=2**36, cores=132)
    with among(AllCores(), card) as on_card, among(AllCores()) as second:
        assert threads(on_card, card) == (0, "")
        assert threads(second) == (8, "8")
    with among(engine_spec("simulated")) as simulated:
        assert (simulated.turns, simulated.shares) == (None, None)
    for url, here in (("http://127.0.0.1:11434/v1", True), ("http://gpu.lan:8000/v1", False)):
        with among(engine_spec("openai"), base_url=url) as server:
            assert (server.turns is not None, server.shares) == (here, None)


def test_a_model_s_need_is_told_by_its_header(model_files: dict[str, Path]) -> None:
    """Weights, cache and what the runtime takes; a file that cannot be read is the engine's to refuse."""
    with among(LlamaCpp()) as near:
        few = near.needs(ModelSpec(name="m", path=str(model_files["q8_0"]), context_tokens=512, slots=1))
        many = near.needs(ModelSpec(name="m", path=str(model_files["q8_0"]), context_tokens=512, slots=9))
        assert 8 * 512 * 23040 <= many - few <= 1.1 * 8 * 512 * 23040  # and a step's rows
        assert few > model_files["q8_0"].stat().st_size
        assert near.needs(ModelSpec(name="m", path="/nope.gguf")) == 0
