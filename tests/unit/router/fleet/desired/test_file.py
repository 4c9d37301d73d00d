"""``fleet.toml``: what may stand in it, and what is said of what may not."""

import pytest

from router.errors import ConfigError, InvalidRequest
from router.fleet.desired.file import check_state, parse_fleet
from router.fleet.desired.values import Copies, DesiredModel, DesiredState, Source

WHOLE = """
# what we serve
[[models]]
name = "llama-3.1-8b"
sources = [{ pool = "llama-3.1-8b-q8_0.gguf" }]
quantizations = ["q8_0", "Q4_K_M"]
engine = "llama.cpp"
context = 8192
slots = 8
floor = "q4_k_m"
copies = { min = 1, max = 3 }
where = "24 GiB and CUDA"
labels = { site = "lab" }
idle = "10m"
pin = true

[[models]]
name = "qwen3-4b"
copies = 0

[[models.sources]]
repo = "Qwen/Qwen3-4B-GGUF"
file = "Qwen3-4B-Q4_K_M.gguf"

[rules]
residence = "20s"
turn = 45
keep_alive_most = "2h"
"""


def test_a_whole_file_is_read() -> None:
    """Every field: sources, quantizations, engine, context, slots, floor, copies, where, idle time, pin."""
    state = parse_fleet(WHOLE)
    first, second = state.models
    assert first.sources == (Source(pool="llama-3.1-8b-q8_0.gguf"),)
    assert (first.quantizations, first.context, first.slots, first.floor) == (("q8_0", "Q4_K_M"), 8192, 8, "q4_k_m")
    assert (first.copies, first.idle_s, first.pin) == (Copies(min=1, max=3), 600.0, True)
    assert (first.where, first.labels) == ("24 GiB and CUDA", {"site": "lab"})
    assert second.copies == Copies(min=0, max=1)
    assert second.sources[0].repo == "Qwen/Qwen3-4B-GGUF"
    assert (state.rules.residence_s, state.rules.turn_s, state.rules.keep_alive_most_s) == (20.0, 45.0, 7200.0)


def test_copies_of_none_are_brought_up_on_demand() -> None:
    """``copies = 0`` would otherwise mean: never."""
    assert parse_fleet('[[models]]\nname = "m"\ncopies = 0').models[0].copies == Copies(min=0, max=1)
    assert parse_fleet('[[models]]\nname = "m"\ncopies = { min = 2 }').models[0].copies == Copies(min=2, max=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[models]]\nnam = "x"', "line 2, models[0].nam: no such field; did you mean 'name'?"),
        ('[[models]]\nname = "x"\n[modles]', "line 3, modles: no such field; did you mean 'models'?"),
        ('[[models]]\nname="a"\ncopies = {min = "a"}', "line 3, models[0].copies.min: expected 'int', got 'str'"),
        ('[[models]]\nname="a"\n[models.copies]\nmin = 3\nmax = 2', "line 4, models[0].copies.min: 3 is more than max"),
        ('[[models]]\nname="a"\n[[models]]\nname="a"', "line 4, models[1].name: 'a' is there twice"),
        ('[[models]]\nname="a"\n\nidle="soon"', "line 4, models[0].idle: 'soon' is no duration"),
        ('[[models]]\nname="a"\n[[models]]\nname="b"\ncontext=0', "line 5, models[1].context: expected 'int' >= 1"),
        ("[[models]]\ncontext=1", "line 1, models[0]: it lacks the field 'name'"),
        ('[[models]]\nname="a"\nquantizations=["q9"]', "line 3, models[0].quantizations: unknown quantization 'q9'"),
        (
            '[[models]]\nname="a"\nquantizations=["q2_k"]\nfloor="q8_0"',
            "line 3, models[0].quantizations: q2_k is below",
        ),
        ('[[models]]\nname="a"\n[[models.sources]]\nrepo="a"', "line 3, models[0].sources[0]: give one of path"),
        ('[[models]]\nname="a"\n[[models.sources]]\npath="a"\nfil=1', "line 5, models[0].sources[0].fil: no such"),
        ('[[models]]\nname="a"\nwhere="5"', "line 3, models[0].where: '5': no memory"),
        ('[[models]]\nname="a"\nwhere="CUDA and"', "line 3, models[0].where: 'CUDA and': an empty clause"),
        ('[[models]]\nname="a@b"', "line 2, models[0].name: no client can ask for it"),
        ("models = 3", "line 1, models: expected 'array', got 'int'"),
        ("models = [3]", "line 1, models[0]: expected 'object', got 'int'"),
        ("[rules]\nturn = true", "line 2, rules.turn: True is no duration"),
        ("[rules]\nkeep_alive_least='2h'", "line 2, rules.keep_alive_least: is more than keep_alive_most"),
        ("a = \n", "line 1: not valid TOML"),
        ('[[models]]\nname="a"\nname="b"', "line 3: not valid TOML"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(text: str, said: str) -> None:
    """One line, and what to do about it."""
    with pytest.raises(ConfigError) as raised:
        parse_fleet(text, "my.toml")
    assert raised.value.message.startswith(f"my.toml, {said}"), raised.value.message
    assert "\n" not in raised.value.message


def test_a_state_without_a_file_is_held_to_the_same() -> None:
    """What comes over the admin API has no lines; its field is named."""
    with pytest.raises(InvalidRequest, match=r"^models\[0\]\.where: ") as raised:
        check_state(DesiredState(models=(DesiredModel(name="m", where="7"),)))
    assert raised.value.param == "state.models[0].where"
