"""A join token need not stand in the process list."""

import io
from pathlib import Path

import pytest

from protos.contract.joining.join_token import BadToken
from workers.cli.given_token import given_token


def test_a_token_may_be_given_as_it_is_or_not_at_all() -> None:
    assert given_token("as1.a.b.c") == "as1.a.b.c"
    assert given_token("") == ""


@pytest.mark.parametrize("text", ["as1.a.b.c\n", "  as1.a.b.c  \nmore\n"])
def test_a_token_from_standard_input_or_a_file_is_its_first_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert given_token("-") == "as1.a.b.c"
    (tmp_path / "token").write_text(text)
    assert given_token(f"@{tmp_path / 'token'}") == "as1.a.b.c"


def test_where_none_comes_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(BadToken, match="no join token came"):
        given_token("-")
    with pytest.raises(OSError, match="nowhere"):
        given_token(f"@{tmp_path / 'nowhere'}")
