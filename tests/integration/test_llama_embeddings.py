"""Embeddings of the llama.cpp engine: llama-cpp-python's own, whatever else is embedded or generated meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from protos.contract.ids import RequestId
from protos.contract.request import ChatMessage, EmbeddingInputs, Job, Sampling
from workers.engines.base import ModelSpec, Refused
from workers.engines.llama_cpp.engine import LlamaCppEngine

pytestmark = pytest.mark.model
MODEL = Path("build/models/smollm2-135m-q8_0.gguf")
LEAST_COSINE = 0.9999
TEXTS = (
    "a cat",
    "The quick brown fox jumps over the lazy dog.",
    "Ünïcödé, 数字 and 42 — all of it.",
    "def f(x):\n    return x ** 2\n",
    " ".join(f"word{number}" for number in range(60)),
)


@pytest.fixture(scope="module")
def reference() -> "list[np.ndarray]":
    """What the high-level class says of each text alone."""
    import llama_cpp

    model = llama_cpp.Llama(
        str(MODEL), embedding=True, n_ctx=1024, n_batch=1024, n_ubatch=1024, n_threads=1, verbose=False,
        pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN,
    )  # fmt: skip
    found = [np.array(model.embed(text, normalize=True)) for text in TEXTS]
    model.close()
    return found


@pytest.fixture
async def engine() -> AsyncIterator[LlamaCppEngine]:
    """With the model loaded; its steps are read, as a worker does."""
    made = LlamaCppEngine()
    await made.load(
        ModelSpec(name="m", quantization="q8_0", path=str(MODEL), context_tokens=1024, slots=2, options={"threads": 1}),
        lambda fraction, line: None,
    )
    reading = asyncio.create_task(_read(made))
    yield made
    await made.close()
    reading.cancel()
    await asyncio.wait([reading])


async def _read(engine: LlamaCppEngine) -> None:
    async for _ in engine.steps():
        pass


async def embed(engine: LlamaCppEngine, *inputs: str | tuple[int, ...], dimensions: int = 0) -> list[np.ndarray]:
    counted: list[int] = []
    asked = EmbeddingInputs(inputs=inputs, dimensions=dimensions)
    result = await engine.embed("m", "q8_0", asked, counted.append)
    assert counted == [result.prompt_tokens]
    return [np.array(vector) for vector in result.vectors]


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


async def test_vectors_are_llama_cpp_pythons_alone_packed_and_beside_what_is_generated(
    engine: LlamaCppEngine, reference: list[np.ndarray]
) -> None:
    """Cosine at least 0.9999, whatever the batch."""
    for text, expected in zip(TEXTS, reference, strict=True):
        (alone,) = await embed(engine, text)
        assert cosine(alone, expected) >= LEAST_COSINE
        assert np.linalg.norm(alone) == pytest.approx(1.0, abs=1e-5)
    packed = await embed(engine, *TEXTS)
    assert all(cosine(one, expected) >= LEAST_COSINE for one, expected in zip(packed, reference, strict=True))
    job = Job(
        request_id=RequestId("r"), attempt=1, model="m", quantization="q8_0",
        messages=(ChatMessage(role="user", content="Count to a hundred."),), sampling=Sampling(max_tokens=60),
    )  # fmt: skip
    await engine.submit(job)
    order = list(range(len(TEXTS))) * 2
    random.Random(1).shuffle(order)
    together = await asyncio.gather(*(embed(engine, TEXTS[number]) for number in order))
    for number, (vector,) in zip(order, together, strict=True):
        assert cosine(vector, reference[number]) >= LEAST_COSINE


async def test_texts_of_unlike_meaning_are_apart(engine: LlamaCppEngine) -> None:
    """Else a constant would pass the other test."""
    cat, law = await embed(engine, "a cat sat on the mat", "the income tax act of 1986")
    assert cosine(cat, law) < 0.99


async def test_dimensions_are_the_first_ones_at_unit_length_again(engine: LlamaCppEngine) -> None:
    (whole,) = await embed(engine, "a cat")
    (short,) = await embed(engine, "a cat", dimensions=64)
    assert short.shape == (64,)
    assert np.allclose(short, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-5)


async def test_token_ids_are_embedded_as_they_are(engine: LlamaCppEngine) -> None:
    (ids,) = await embed(engine, (504, 2644, 6354))
    assert np.linalg.norm(ids) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("inputs", "dimensions", "parameter"),
    [(("",), 0, "input"), (("a", ""), 0, "input[1]"), (("a",), 100_000, "dimensions"), (((10**6,),), 0, "prompt"),
     (("word " * 3000,), 0, "input")],
)  # fmt: skip
async def test_what_cannot_be_embedded_is_refused_before_anything_is_counted(
    engine: LlamaCppEngine, inputs: tuple[str | tuple[int, ...], ...], dimensions: int, parameter: str
) -> None:
    with pytest.raises(Refused) as refused:
        await embed(engine, *inputs, dimensions=dimensions)
    assert refused.value.parameter == parameter


async def test_many_texts_count_as_load_and_one_that_is_cancelled_is_dropped(engine: LlamaCppEngine) -> None:
    """A client that leaves must not be worked for."""
    many = asyncio.create_task(embed(engine, *([TEXTS[-1]] * 16)))
    other = asyncio.create_task(embed(engine, TEXTS[0]))
    while not engine.load_figures().waiting:
        await asyncio.sleep(0.005)
    assert engine.load_figures().prefill_tokens_pending > 0
    many.cancel()
    await other
    while engine.load_figures().waiting:
        await asyncio.sleep(0.005)
    assert engine.load_figures().prefill_tokens_pending == 0
