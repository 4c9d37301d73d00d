"""vLLM's engine hands a chat's images to a model that sees; what they cost is counted, what is none is refused."""

import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from protos.contract.content import Image
from protos.contract.request import ChatMessage, Sampling
from tests.contract.engines.rigs import Rig, run_elsewhere
from tests.support.tiny_idefics import IMAGE_TOKENS, make
from workers.engines.base import ModelSpec, Refused
from workers.engines.table import make_engine

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(600),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(bool(run_elsewhere("vllm")), reason="make test-vllm"),
]
GREEDY = Sampling(temperature=0.0, max_tokens=8, logprobs=True, top_logprobs=1, ignore_eos=True)


def png(red: int, green: int, blue: int, side: int = 32) -> bytes:
    """One colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\x00" + bytes((red, green, blue)) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seeing(awq_folder, tmp_path_factory) -> AsyncIterator[Rig]:  # type: ignore[no-untyped-def]
    folder = make(awq_folder, tmp_path_factory.mktemp("vision") / "tiny-idefics")
    spec = ModelSpec(name="tiny", path=str(folder), context_tokens=256, slots=2, options={"dtype": "float32"})
    rig = Rig("vllm", make_engine("vllm"), spec)
    try:
        await rig.start()
        yield rig
    finally:
        await rig.stop()


def asked(rig: Rig, *parts: str | Image):  # type: ignore[no-untyped-def]
    job = rig.job("", sampling=GREEDY)
    return replace(job, messages=(ChatMessage(role="user", parts=parts),))


async def test_images_reach_the_model_in_their_places(seeing: Rig) -> None:
    """What it says depends on what it sees, and on nothing else; each image costs its tokens."""
    assert seeing.loaded.capabilities.vision
    red, blue = (Image(data=png(*colour), media_type="image/png") for colour in ((255, 0, 0), (0, 0, 255)))
    runs = [
        await seeing.run(asked(seeing, *parts))
        for parts in ((red, "What is it?"), (blue, "What is it?"), (red, "What is it?"), (red, blue, "What is it?"))
    ]
    said = [[one.logprob for delta in run.deltas for one in delta.logprobs] for run in runs]
    assert said[0] == pytest.approx(said[2], abs=1e-4)
    assert said[0] != pytest.approx(said[1], abs=1e-4)
    prompts = [run.final.usage.prompt_tokens for run in runs if run.final.usage is not None]
    assert prompts[0] == prompts[1] == prompts[2] == prompts[3] - IMAGE_TOKENS


async def test_text_alone_is_answered_too(seeing: Rig) -> None:
    """And a user who writes the image's mark has written words."""
    plain = await seeing.run(asked(seeing, "Hello"))
    written = await seeing.run(asked(seeing, "Hello <image>"))
    assert plain.final.usage is not None
    assert written.final.usage is not None
    assert 0 < written.final.usage.prompt_tokens - plain.final.usage.prompt_tokens < IMAGE_TOKENS


async def test_what_is_no_image_is_refused(seeing: Rig) -> None:
    broken = Image(data=png(1, 2, 3)[:40], media_type="image/png")
    with pytest.raises(Refused, match="image 1 cannot be decoded"):
        await seeing.submit(asked(seeing, broken, "What is it?"))
