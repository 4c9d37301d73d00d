"""Fleet files and traces that cannot be used end in one line that names the file, the line and the field."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.simulate.fleet import read_fleet
from loadtest.simulate.located import InputError
from loadtest.simulate.traces import read_trace

FLEET = """[fleet]
name = "lab"

[[worker]]
node = "a"
profile = "rtx-4090"
model = "llama-3.1-8b"
quantization = "awq"

[[worker]]
node = "b"
profile = "m1-16gb"
model = "llama-3.1-8b"
quantization = "q4_k_m"

[[demand]]
model = "llama-3.1-8b"
share = 1
floor = "q4_k_m"
"""


def refused(path: Path) -> str:
    """The one line."""
    reader = read_fleet if path.suffix == ".toml" else read_trace
    with pytest.raises(InputError) as raised:
        reader(path)
    message = raised.value.message
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def written(folder: Path, name: str, text: str | bytes) -> Path:
    """A file with that content."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("path", sorted(Path("deploy/fleets").glob("*.toml")), ids=lambda path: path.stem)
def test_the_fleets_that_ship_are_read(path: Path) -> None:
    """With every worker of theirs."""
    fleet = read_fleet(path)
    assert fleet.name == path.stem
    assert fleet.nodes
    assert sum(one.share for one in fleet.demand) == pytest.approx(1.0)


def test_a_floor_may_be_written_in_any_way(tmp_path: Path) -> None:
    """It is compared by its canonical name."""
    fleet = read_fleet(written(tmp_path, "lab.toml", FLEET.replace('floor = "q4_k_m"', 'floor = "Q4-K-M"')))
    assert fleet.demand[0].floor == "q4_k_m"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('name = "lab"', "name = 3", 2, "fleet.name must be a text"),
        ('name = "lab"', 'nam = "lab"', 2, "fleet.nam is not a field"),
        ('node = "a"', "", 4, "worker.node is missing"),
        ('node = "b"', 'node = "a"', 11, "worker.node 'a' is there twice"),
        ('node = "a"', 'node = "a"\nspeed = 3', 6, "worker.speed is not a field"),
        ('node = "b"', 'node = "b"\ncount = 1.5', 12, "worker.count must be a whole number"),
        ('node = "b"', 'node = "b"\ncount = -1', 12, "worker.count must be a number of at least 1"),
        ('node = "b"', 'node = "b"\ncount = 99999', 12, "worker.count makes more than"),
        ('node = "b"', 'node = "b"\nslots = true', 12, "worker.slots must be"),
        ('node = "b"', 'node = "b"\nrtt_ms = nan', 12, "worker.rtt_ms must be"),
        ('profile = "rtx-4090"', 'profile = "rtx-9999"', 6, "worker.profile"),
        ('quantization = "awq"', 'quantization = "q9"', 8, "worker.quantization"),
        ("share = 1", "share = 0", 18, "demand.share must be above zero"),
        ("share = 1", 'share = "all"', 18, "demand.share must be a number"),
        ('floor = "q4_k_m"', 'floor = "q4_m_k"', 19, "did you mean q4_k_m"),
        ('floor = "q4_k_m"', "floor = 4", 19, "demand.floor names a quantization"),
        ('model = "llama-3.1-8b"\nshare', 'model = "llama-9"\nshare', 17, "demand.model 'llama-9' is served by no"),
        ("[[demand]]", "[[wish]]", 16, "unknown table [wish]"),
    ],
)
def test_a_malformed_fleet_names_the_line_and_the_field(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    """The line is the field's own, or its table's where the field is missing."""
    assert FLEET.count(old) >= 1
    message = refused(written(tmp_path, "lab.toml", FLEET.replace(old, new, 1)))
    assert says in message
    assert message.startswith(f", line {line}:")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "[[worker]] is missing"),
        ("[fleet\n", "line 1"),
        ("fleet = 3\n[[worker]]\n", "write [fleet], once"),
        ("worker = 3\n", "write [[worker]]"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_what_is_no_fleet_file_says_so(tmp_path: Path, text: str | bytes, says: str) -> None:
    """Empty, broken, another encoding."""
    assert says in refused(written(tmp_path, "lab.toml", text))


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("t.csv", "", ", line 1: the header must be"),
        ("t.csv", "a,b,c\n", ", line 1: the header must be"),
        ("t.csv", AZURE, "fewer than two"),
        ("t.csv", AZURE + "2023-11-16 18:17:03.97,4,5\n2023-11-16 18:17:04,4\n", ", line 3: has 2 fields"),
        ("t.csv", AZURE + "yesterday,4,5\n", ", line 2: TIMESTAMP is no time"),
        ("t.csv", AZURE + "2023-11-16 18:17:03.97,x,5\n", ", line 2: ContextTokens must be"),
        ("t.csv", AZURE + "2023-11-16 18:17:03.97,4,-5\n", ", line 2: GeneratedTokens must be"),
        ("t.csv", AZURE + '"' + "x" * 200_000 + "\n", "is no CSV"),
        ("t.jsonl", "{\n", ", line 1: not JSON"),
        ("t.jsonl", MOONCAKE + "[]\n", ", line 2: must be a JSON object"),
        ("t.jsonl", MOONCAKE + MOONCAKE.replace('"timestamp": 0, ', ""), ", line 2: timestamp is missing"),
        ("t.jsonl", MOONCAKE.replace(": 0,", ": NaN,"), ", line 1: timestamp must be milliseconds"),
        ("t.jsonl", MOONCAKE.replace(": 0,", ": Infinity,"), ", line 1: timestamp must be milliseconds"),
        ("t.jsonl", MOONCAKE.replace(": 600", ": 6.5"), ", line 1: input_length must be"),
        ("t.jsonl", MOONCAKE.replace(": 5,", ": true,"), ", line 1: output_length must be"),
        ("t.jsonl", MOONCAKE.replace("[1, 2]", '["a"]'), ", line 1: hash_ids must be"),
        ("t.jsonl", MOONCAKE.replace("[1, 2]", "[-1]"), ", line 1: hash_ids must be"),
        ("t.jsonl", "[" * 100_000 + "\n", ", line 1: not JSON"),
        ("t.jsonl", b"\xff\n", "not text"),
        ("t.txt", "", "neither .csv"),
    ],
)
def test_a_malformed_trace_names_the_line_and_the_field(
    tmp_path: Path, name: str, text: str | bytes, says: str
) -> None:
    """Both formats."""
    assert says in refused(written(tmp_path, name, text))


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    """With the system's own reason."""
    assert "No such file" in refused(tmp_path / "gone.csv")
    assert "No such file" in refused(tmp_path / "gone.toml")


@settings(max_examples=150, derandomize=True, deadline=None)
@given(place=st.integers(0, len(FLEET)), length=st.integers(0, 30), text=st.text("[]=\"#\n.a1-{},'", max_size=8))
def test_no_damage_to_a_fleet_file_gets_past_as_anything_but_one_line(
    tmp_path_factory: pytest.TempPathFactory, place: int, length: int, text: str
) -> None:
    """A fleet or an InputError; a line it names exists."""
    damaged = FLEET[:place] + text + FLEET[place + length :]
    path = written(tmp_path_factory.getbasetemp(), "damaged.toml", damaged)
    try:
        assert read_fleet(path).nodes
    except InputError as error:
        assert "\n" not in error.message  # noqa: PT017 - either end is right
        named = re.search(r", line (\d+):", error.message)
        assert named is None or int(named.group(1)) <= damaged.count("\n") + 1
