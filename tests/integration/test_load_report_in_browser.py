"""Reports of load tests as a real browser shows them."""

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest

from loadtest.locust.report import write_report
from loadtest.locust.report.compare import compare_runs
from loadtest.locust.report.run import SAMPLES
from tests.support.browser import CHROMIUM, measured, screenshot, served
from tests.support.load_samples import facts, sample, shed

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")

BLUE, ORANGE = (0x25, 0x63, 0xEB), (0xDC, 0x68, 0x03)


def write_run(folder: Path, seed: int) -> None:
    """A ramp over its knee, with sheds, continuations and six workers."""
    folder.mkdir()
    rng = random.Random(seed)
    run = facts(str(folder), label=f"run {seed}", shape="ramp", rate=1.0, peak=8.0, steps=6, duration_s=60.0)
    run.refused = {"tools": "tools are not served here, and this is said at some length " * 3}
    with (folder / SAMPLES).open("wb") as file:
        at = 0.0
        while at < 60.0:
            at += rng.expovariate(1.0 + at / 10.0)
            late = max(at - 40.0, 0.0) / 5.0
            one = shed(at) if rng.random() < late / 20.0 else sample(
                at, ttft_s=0.1 + late + rng.random(), tpot_s=0.01 + 0.02 * rng.random(), tokens=rng.randrange(2, 300),
                worker=f"a-node-with-a-long-name-{rng.randrange(6)}", continuations=int(rng.random() < 0.05),
            )  # fmt: skip
            file.write(msgspec.json.encode(one) + b"\n")
    write_report(run, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reports")
    write_run(place / "one", 1)
    write_run(place / "two", 2)
    compare_runs([[place / "one"], [place / "two"]], place / "compare")
    return place


@pytest.mark.parametrize("page", ["one/report.html", "compare/compare.html"])
@pytest.mark.parametrize("width", [1280, 700, 360])
def test_a_page_fits_every_width_and_its_charts_are_whole(folder: Path, page: str, width: int) -> None:
    """Nothing is wider than the window, no label or point lies outside its chart or on another, nothing is loaded."""
    with served(folder) as url:
        shown = measured(url, folder, page, width)
    assert shown["overflow"] == 0
    assert len(shown["charts"]) == (4 if page.startswith("one") else 3)
    assert all(0 < wide <= width and tall > 100 for wide, tall in shown["charts"])
    assert shown["outside"] == 0
    assert shown["crowded"] == 0
    assert shown["loaded"] == 0


def test_a_page_that_is_broken_is_seen_to_be(tmp_path: Path) -> None:
    """What the test above relies on: too wide, labels on one another and outside their chart, something loaded."""
    label = '<text class="tick" x="{}" y="20">12345</text>'
    drawn = label.format(5) + label.format(9) + label.format(900)
    page = f'<title>x</title><div style="width:2000px">x</div><svg width="300" height="150">{drawn}</svg>'
    (tmp_path / "bad.html").write_text(f'<!doctype html>{page}<img src="missing.png">')
    with served(tmp_path) as url:
        shown = measured(url, tmp_path, "bad.html", 700)
    assert shown["overflow"] > 1000
    assert (shown["outside"], shown["crowded"], shown["loaded"]) == (1, 1, 1)


def test_the_page_says_what_was_measured(folder: Path) -> None:
    with served(folder) as url:
        text = measured(url, folder, "one/report.html", 1280)["text"]
    for said in ("Goodput against offered load", "knee, requests/s", "shed: no_capacity", "a-node-with-a-long-name-5"):
        assert said in text
    assert "nan" not in text.lower()


def test_a_screenshot_shows_drawn_lines(folder: Path, tmp_path: Path) -> None:
    """Both first colours of the charts are there in lines, on a page that is mostly background."""
    with served(folder) as url:
        pixels = screenshot(f"{url}/one/report.html", tmp_path / "page.png")
    assert pixels.shape == (1800, 1280, 3)
    for colour in (BLUE, ORANGE):
        drawn = (pixels == np.array(colour, np.uint8)).all(axis=2)
        assert drawn.sum() > 1000
        assert np.ptp(np.nonzero(drawn)[1]) > 500
    assert (pixels == 255).all(axis=2).mean() > 0.6
