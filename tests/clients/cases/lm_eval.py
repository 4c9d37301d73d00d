"""lm-eval's request bodies, as its ``local-completions`` and ``local-chat-completions`` models send them."""

import httpx

from tests.clients.table import MODEL, refuse_if_unable


def _post(url: str, path: str, **body: object) -> dict:
    reply = httpx.post(f"{url}{path}", json={"model": MODEL, **body}, timeout=120)
    if reply.status_code == 400:
        refuse_if_unable(reply.text)
    assert reply.status_code == 200, reply.text[:500]
    return reply.json()


def loglikelihood(url: str) -> None:
    """A text is scored: its echo with log-probabilities, and one token that is not looked at."""
    body = _post(
        url, "/v1/completions", prompt=["The sky is blue", "Two and two are four"], temperature=0, max_tokens=1,
        logprobs=1, seed=1234, echo=True,
    )  # fmt: skip
    for choice in body["choices"]:
        told = choice["logprobs"]
        assert told["token_logprobs"][0] is None
        assert all(one <= 0 for one in told["token_logprobs"][1:])
        assert len(told["tokens"]) == len(told["token_logprobs"]) == len(told["top_logprobs"])


def loglikelihood_ids(url: str) -> None:
    """The same of token ids, which it sends by default."""
    body = _post(
        url, "/v1/completions", prompt=[[504, 6376, 314], [504, 6376]], temperature=0, max_tokens=1, logprobs=1,
        seed=1234, echo=True,
    )  # fmt: skip
    assert [one["index"] for one in body["choices"]] == [0, 1]


def generate_until(url: str) -> None:
    """Both endpoints."""
    assert _post(
        url, "/v1/completions", prompt="Question: 2+2?\nAnswer:", max_tokens=8, temperature=0, stop=["\n\n"], seed=1234
    )["choices"][0]["text"]
    chat = _post(
        url, "/v1/chat/completions", messages=[{"role": "user", "content": "2+2?", "type": "text"}], max_tokens=8,
        temperature=0, stop=["\n\n"], seed=1234,
    )  # fmt: skip
    assert chat["choices"][0]["message"]["content"]
