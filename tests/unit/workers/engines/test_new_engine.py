"""A new engine is a package and a line in a table: everything that asks for engines by name takes it from there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.toy_engine import toy_engine
from workers.config import ConfigError, ModelConfig, parse_model, read_config
from workers.doctor.checks import local_checks
from workers.engines.base import LoadError
from workers.engines.spec import EngineSpec
from workers.engines.table import ENGINES, make_engine
from workers.joining.model_selection import choose, models_here
from workers.joining.preflight import check_models
from workers.joining.profile import profile_of


@pytest.fixture
def toy() -> Iterator[EngineSpec]:
    with toy_engine() as spec:
        yield spec


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "letters.toy"
    file.write_text("abc")
    return file


def test_the_configuration_takes_it_by_name(toy: EngineSpec, model: Path) -> None:
    """And asks for what it needs, as of every engine."""
    flags = {"engine": toy.name, "models": [{"name": "letters", "path": str(model)}]}
    assert read_config(None, flags=flags).engine == "toy"
    with pytest.raises(ConfigError, match="nothing to serve"):
        read_config(None, flags={"engine": toy.name})


def test_an_engine_that_is_not_in_the_table_is_nowhere(model: Path) -> None:
    """The error names those that are."""
    with pytest.raises(ConfigError, match="no engine 'toy'; choose one of"):
        read_config(None, flags={"engine": "toy", "models": [{"path": str(model)}]})
    with pytest.raises(LoadError, match="no engine 'toy'"):
        make_engine("toy")


async def test_a_join_checks_its_models_before_a_token_is_spent(toy: EngineSpec, model: Path) -> None:
    """By the engine's own check."""
    await check_models(toy, [parse_model(f"letters={model}")])
    with pytest.raises(LoadError, match="a toy's model is a text file"):
        await check_models(toy, [ModelConfig(path="/no/such.toy")])


def test_a_join_finds_its_models_in_a_folder(toy: EngineSpec, model: Path) -> None:
    """Those it can serve, and what they tell of themselves for the router."""
    (model.parent / "not-mine.gguf").write_bytes(b"")
    (told,) = models_here(toy, model.parent)
    assert (told.model, told.quantization, told.parameters) == ("letters.toy", "q3", 3)
    chosen = choose(toy, (), model.parent, ask=None)
    assert (chosen.name, chosen.path) == ("letters.toy", str(model))


async def test_the_profile_and_the_doctor_know_it(toy: EngineSpec) -> None:
    """Its name and version, as the engine tells them."""
    profile = await profile_of(toy, node="here")
    assert (profile.engine, profile.engine_version) == ("toy", "1")
    findings = [one async for one in local_checks(engine="toy", model=None)]
    assert [(one.check, one.ok, one.detail) for one in findings if one.check == "engine"] == [("engine", True, "toy 1")]


@pytest.mark.parametrize("name", list(ENGINES))
async def test_an_engine_calls_itself_what_the_table_calls_it(name: str) -> None:
    """What a worker reports is what people asked for."""
    try:
        engine = make_engine(name)
    except LoadError as missing:
        pytest.skip(str(missing))
    assert engine.kind == name
    await engine.close()
