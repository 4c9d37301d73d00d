"""Rule: an owner is told before anything is done whether a port will be opened, and what for."""

from pathlib import Path

import pytest

from protos.contract.worker import Hardware
from workers.engines.table import engine_spec
from workers.joining.home import Home
from workers.joining.plan import JoinPlan, plan_lines


@pytest.mark.parametrize("listens", ["", "any free port", "0.0.0.0:8098"])
def test_a_draft_says_that_it_listens_and_others_that_they_do_not(tmp_path: Path, listens: str) -> None:
    plan = JoinPlan(
        address="head:8099", engine=engine_spec("llama.cpp"), hardware=Hardware(kind="cpu", name="x"),
        home=Home.of(tmp_path), log="nowhere", models=(("m", "m.gguf"),), drafts_at=listens,
    )  # fmt: skip
    said = dict(plan_lines(plan))
    assert ("opens no port" in said["asks"]) is not bool(listens)
    assert (f"listens on {listens}" in said["asks"]) is bool(listens)
    assert ("drafts" in said) is bool(listens)
    assert ("serves" in said) is not bool(listens)
    assert "m from m.gguf" in said.get("drafts", said.get("serves", ""))
