"""A real browser without a screen: Debian's Chromium. It measures pages from loopback, and takes screenshots."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHROMIUM = shutil.which("chromium")
DEADLINE_S = 60.0

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)

_MEASURE = """<!doctype html><body><iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, box = one => one.getBoundingClientRect();
  const inside = one => {{
    const inner = box(one), outer = box(one.ownerSVGElement);
    return inner.left >= outer.left - 1 && inner.right <= outer.right + 1
      && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
  }};
  const ticks = svg => [...svg.querySelectorAll(".tick")].map(box);
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom - 2 && b.top < a.bottom - 2;
  const crowded = [...page.querySelectorAll("svg")].reduce((sum, svg) => {{
    const all = ticks(svg);
    return sum + all.filter((one, at) => all.slice(at + 1).some(other => meet(one, other))).length;
  }}, 0);
  document.body.dataset.measured = JSON.stringify({{
    title: page.title,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    charts: [...page.querySelectorAll("svg")].map(one => [box(one).width, box(one).height]),
    outside: [...page.querySelectorAll("svg text, svg circle")].filter(one => !inside(one)).length,
    crowded,
    loaded: frame.contentWindow.performance.getEntriesByType("resource").length,
    text: page.body.innerText,
  }});
}};
</script></body>"""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder's base URL on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def measured(url: str, folder: Path, page: str, width: int) -> dict[str, Any]:
    """What the browser says of a page of a served folder, shown ``width`` pixels wide."""
    (folder / "measure.html").write_text(_MEASURE.format(page=page, width=width), encoding="utf-8")
    dom = _chromium("--virtual-time-budget=4000", "--dump-dom", f"{url}/measure.html")
    found = re.search(r'data-measured="([^"]*)"', dom)
    assert found, f"the page did not load: {dom[:300]}"
    shown: dict[str, Any] = json.loads(found.group(1).replace("&quot;", '"').replace("&amp;", "&"))
    return shown


def screenshot(url: str, to: Path, *, width: int = 1280, height: int = 1800) -> NDArray[np.uint8]:
    """The page's pixels, rows by columns by red, green, blue."""
    _chromium(f"--window-size={width},{height}", f"--screenshot={to}", url)
    return _pixels(to.read_bytes())


def _chromium(*arguments: str) -> str:
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, timeout=DEADLINE_S, check=True, capture_output=True, text=True).stdout


def _pixels(data: bytes) -> NDArray[np.uint8]:
    """A PNG of 8-bit colours, without interlacing (RFC 2083)."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    channels = {2: 3, 6: 4}[data[25]]
    packed, at = b"", 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    above = np.zeros((width, channels), np.uint8)
    out = np.empty((height, width, channels), np.uint8)
    for place, line in enumerate(lines):
        above = out[place] = _unfiltered(int(line[0]), line[1:].reshape(width, channels), above)
    return out[:, :, :3]


def _unfiltered(kind: int, line: NDArray[np.uint8], above: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if kind == 0:
        return line
    if kind == 2:
        return line + above
    if kind == 1:
        return np.cumsum(line, axis=0, dtype=np.uint8)
    done = np.zeros_like(line)
    left = corner = np.zeros(line.shape[1], int)
    for place in range(len(line)):
        up = above[place].astype(int)
        guess = (left + up) // 2
        if kind == 4:
            near = left + up - corner
            far = np.abs(np.stack([near - left, near - up, near - corner]))
            guess = np.choose(np.argmin(far, axis=0), [left, up, corner])
        done[place] = (line[place] + guess) % 256
        left, corner = done[place].astype(int), up
    return done
