"""``fleet.toml`` to a model that answers: router, worker and command as an operator has them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from openai import OpenAI
from typer.testing import CliRunner, Result

from router.cli.apply import apply
from router.cli.status import status
from tests.support.one_pool import OnePool, one_pool

pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
WANTED = f"""
[[models]]
name = "{MODEL}"
quantizations = ["q8_0"]
copies = 1
slots = 2
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, model_files: dict[str, Path]) -> Iterator[OnePool]:
    """A router, and a machine that waits for models and has two files."""
    folder = tmp_path_factory.mktemp("desired-state")
    models = folder / "models"
    models.mkdir()
    for path in model_files.values():
        (models / path.name).symlink_to(path)
    waits = ("--wait-for-models", "--models", str(models), "--threads", "1")
    with one_pool(folder) as one, one.working("box", *waits):
        one.until(lambda: one.worker("box"))
        yield one


def run(pool: OnePool, command: Any, *arguments: str) -> Result:
    """A command of ours against this pool."""
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [*arguments, "--url", pool.url])


def file_with(pool: OnePool, text: str) -> str:
    path = pool.folder / "fleet.toml"
    path.write_text(text)
    return str(path)


def test_a_file_brings_a_model_up_and_takes_it_away_again(pool: OnePool) -> None:
    """The difference first, then the model, then nothing more to do; ``openai``'s client is answered meanwhile."""
    file = file_with(pool, WANTED)
    shown = run(pool, apply, file, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert f"{MODEL}@q8_0" in shown.output
    assert "one must be there" in shown.output
    assert not pool.models("box")
    done = run(pool, apply, file, "--yes", "--wait", "60s")
    assert done.exit_code == 0, done.output
    assert f"{MODEL}@q8_0 on box: ready" in done.output
    client = OpenAI(base_url=f"{pool.url}/v1", api_key="none")
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What is the capital of France?"}], temperature=0
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert pool.models("box")[MODEL]["slots"] == 2
    again = run(pool, apply, file, "--yes")
    assert "nothing is to be loaded" in again.output
    told = json.loads(run(pool, status, "--json").output)
    assert told["settled"]
    assert told["models"][0]["copies"][0]["node"] == "box"
    gone = run(pool, apply, file_with(pool, ""), "--yes")
    assert "is not in the file" in gone.output
    pool.until(lambda: not pool.models("box"))


def test_what_cannot_be_is_said_before_anything_is_done(pool: OnePool) -> None:
    """By capacity's figures, and by machine."""
    text = WANTED.replace("slots = 2", 'where = "CUDA"')
    shown = run(pool, apply, file_with(pool, text), "--dry-run")
    assert f"{MODEL} lacks copies: box: is not what is wished for: CUDA" in shown.output
    huge = WANTED.replace("slots = 2", "slots = 4096")
    assert "needs" in run(pool, apply, file_with(pool, huge), "--dry-run").output


def test_a_state_that_somebody_else_changed_is_not_overwritten(pool: OnePool) -> None:
    """The difference that was shown is the one that is done."""
    version = httpx.get(f"{pool.url}/admin/desired").json()["version"]
    body = {"state": {"models": []}, "version": version}
    assert httpx.post(f"{pool.url}/admin/desired", json=body).status_code == 200
    late = httpx.post(f"{pool.url}/admin/desired", json=body)
    assert late.status_code == 409
    assert "changed by somebody else" in late.json()["error"]["message"]


def test_a_file_that_a_machine_lacks_travels_to_it(pool: OnePool, tmp_path: Path) -> None:
    """Two copies are wanted and one machine has the file: it is fetched, loaded, and answers."""
    with pool.working("bare", "--wait-for-models", "--models", str(tmp_path), "--threads", "1"):
        pool.until(lambda: pool.worker("bare"))
        done = run(pool, apply, file_with(pool, WANTED.replace("copies = 1", "copies = 2")), "--yes", "--wait", "60s")
        assert done.exit_code == 0, done.output
        assert f"{MODEL}@q8_0 on bare: ready" in done.output
        assert [one.name for one in tmp_path.glob("*.gguf")]
    pool.until(lambda: pool.worker("bare").get("state") == "gone")
    assert run(pool, apply, file_with(pool, ""), "--yes").exit_code == 0


def test_nothing_is_done_where_nobody_can_be_asked(pool: OnePool) -> None:
    """The difference was shown; ``--yes`` is for scripts."""
    asked = run(pool, apply, file_with(pool, WANTED))
    assert f"{MODEL}@q8_0" in asked.output
    assert "give --yes" in str(asked.exception)
    assert not pool.models("box")
