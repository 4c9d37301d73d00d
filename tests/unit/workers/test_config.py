"""The worker's configuration: three sources, one tree, clear errors."""

from pathlib import Path

import pytest

from workers.config import ConfigError, ModelConfig, parse_model, public_name, read_config


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    """Later sources replace earlier ones, key by key."""
    file = tmp_path / "worker.toml"
    file.write_text('slots = 2\nthreads = 3\nnode = "file"\n[[models]]\npath = "a.gguf"\n')
    environment = {"ALLSORTS_WORKER_SLOTS": "5", "ALLSORTS_WORKER_NODE": "environment", "OTHER": "x"}
    config = read_config(file, environment=environment, flags={"node": "flags", "threads": None})
    assert (config.slots, config.threads, config.node) == (5, 3, "flags")
    assert config.models == (ModelConfig(path="a.gguf"),)


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    """In the tree and in its parts."""
    file = tmp_path / "worker.toml"
    file.write_text('thread = 3\n[[models]]\npath = "a"\n')
    with pytest.raises(ConfigError, match="unknown key 'thread'; did you mean 'threads'"):
        read_config(file)
    file.write_text('[[models]]\npaht = "a"\n')
    with pytest.raises(ConfigError, match=r"models\[0\]: unknown key 'paht'; did you mean 'path'"):
        read_config(file)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({}, "nothing to serve"),
        ({"models": [{"path": "a"}], "routers": ("nowhere",)}, "HOST:PORT"),
        ({"engine": "openai"}, "--base-url"),
        ({"engine": "openai", "base_url": "http://a/v1", "wait_for_models": True}, "--wait-for-models: engine openai"),
        ({"role": "draft", "wait_for_models": True}, "--wait-for-models: a draft serves what it was given"),
        ({"engine": "zz"}, "there is no engine 'zz'; choose one of llama.cpp"),
        ({"models": [{"path": "a"}], "slots": -1}, "slots"),
        ({"models": [{"path": "a"}], "benchmark": "long"}, "benchmark"),
        ({"models": [{"path": "a", "name": "me@home"}]}, "no client can ask for 'me@home'"),
    ],
)
def test_a_wrong_value_is_named(flags: dict[str, object], line: str) -> None:
    """One line that says which and what to write instead."""
    with pytest.raises(ConfigError, match=line) as error:
        read_config(flags=flags)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Missing, and not TOML."""
    with pytest.raises(ConfigError, match="check the path given with --config"):
        read_config(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("= 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_config(broken)


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [
        ("smol=models/a.gguf", "smol", "models/a.gguf"),
        (
            "models/SmolLM2-135M-Instruct.Q4_K_M.gguf",
            "smollm2-135m-instruct",
            "models/SmolLM2-135M-Instruct.Q4_K_M.gguf",
        ),
        ("./odd/a=b.gguf", "a=b", "./odd/a=b.gguf"),
    ],
)
def test_models_are_named_by_flag_or_file(text: str, name: str, path: str) -> None:
    """NAME=PATH, or PATH alone with the name from the file, without its quantization."""
    parsed = parse_model(text)
    assert (parsed.name, parsed.path) == (name, path)


def test_public_names_lose_the_quantization() -> None:
    """The names in FACTS' list."""
    for file in (
        "Llama-3-8B-Q4_K_S.gguf", "Llama-3-8B-AWQ", "Llama-3-8B-GPTQ-Int4", "Llama-3-8B-IQ2_M.gguf",
        "Llama-3-8B.Q4_K_M-00001-of-00002.gguf", "llama-3-8b@4bit",
    ):  # fmt: skip
        assert public_name(file) == "llama-3-8b"


@pytest.mark.parametrize("text", ["me@home=a.gguf", "models/me@home.gguf"])
def test_a_name_nobody_could_ask_for_is_refused(text: str) -> None:
    """What stands behind @ is no quantization, and the router would take it for one."""
    with pytest.raises(ConfigError, match=r"no client can ask for 'me@home'.*--model NAME="):
        parse_model(text)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"role": "draft", "engine": "simulated"}, "--role draft works with llama.cpp"),
        ({"role": "draft", "listen": "8098"}, "write HOST:PORT"),
        ({"role": "draft", "listen": "0.0.0.0:66000"}, "write HOST:PORT"),
        ({"listen": "0.0.0.0:8098"}, "--listen is for --role draft"),
        ({"role": "drafty"}, "role"),
    ],
)
def test_a_role_that_makes_no_sense_is_said_in_one_line(flags: dict[str, str], said: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=said) as caught:
        read_config(flags={"models": [{"name": "m", "path": "m.gguf"}], **flags})
    assert "\n" not in str(caught.value)


def test_a_draft_listens_where_it_is_told() -> None:
    """Or anywhere."""
    models = [{"name": "m", "path": "m.gguf"}]
    assert read_config(flags={"models": models, "role": "draft"}).listen == ""
    assert read_config(flags={"models": models, "role": "draft", "listen": "[::1]:0"}).listen == "[::1]:0"
