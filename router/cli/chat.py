"""``allsorts chat``: ask the pool from a terminal, streamed; says who answered."""

from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import msgspec
import typer

from router.cli.fleet import URL
from router.cli.support.terminal import Terminal
from router.errors import ConfigError

CONNECT_S = 10.0
BETWEEN_TOKENS_S = 120.0


def chat(
    question: Annotated[str | None, typer.Argument(help="Ask this and stop; without it, a conversation.")] = None,
    model: Annotated[str, typer.Option(help="Name, name@quantization or name@>=quantization.")] = "",
    url: Annotated[str, typer.Option("--url", envvar="ALLSORTS_URL", help="Where the router listens.")] = URL,
    key: Annotated[str, typer.Option(envvar="ALLSORTS_API_KEY", help="An API key with the scope serve.")] = "",
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 512,
    system: Annotated[str, typer.Option(help="A system message to begin with.")] = "",
) -> None:
    """Talk to the pool.

    Examples:
      allsorts chat "What is the capital of France?"

      allsorts chat --model smollm2-135m@q8_0 --temperature 0.7

    """
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(BETWEEN_TOKENS_S, connect=CONNECT_S)
    messages = [{"role": "system", "content": system}] if system else []
    with httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout) as client:
        asked = model or _first_model(client)
        settings = {"model": asked, "temperature": temperature, "max_tokens": max_tokens}
        while True:
            line = question if question is not None else _next_line()
            if line is None:
                return
            messages.append({"role": "user", "content": line})
            messages.append({"role": "assistant", "content": _answer(client, messages, settings)})
            if question is not None:
                return


def _next_line() -> str | None:
    try:
        return input("> ").strip() or _next_line()
    except EOFError:
        return None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def _first_model(client: httpx.Client) -> str:
    try:
        reply = client.get("/v1/models")
    except httpx.HTTPError as error:
        raise ConfigError(f"{client.base_url}: {error or type(error).__name__}; is the router running there?") from None
    if reply.status_code != 200:
        raise ConfigError(_reason(reply.content, reply.status_code))
    try:
        models = msgspec.json.decode(reply.content, type=_Models).data
    except msgspec.DecodeError:
        raise ConfigError(f"{client.base_url}: the reply is no list of models; is this an allsorts router?") from None
    plain = [one.id for one in models if "@" not in one.id]
    if not plain:
        raise ConfigError("no worker serves a model yet; see: allsorts fleet")
    return plain[0]


def _answer(client: httpx.Client, messages: list[dict[str, str]], settings: dict[str, Any]) -> str:
    """Stream one answer to the terminal; returns its text."""
    out, notes = Terminal(), Terminal(stderr=True)
    body = {**settings, "messages": messages, "stream": True}
    parts: list[str] = []
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as reply:
            if reply.status_code != 200:
                raise ConfigError(_reason(reply.read(), reply.status_code))
            for part in _texts(reply):
                parts.append(part)
                out.print(part, end="", markup=False, highlight=False, soft_wrap=True)
            out.print()
            who = (
                reply.headers.get("x-allsorts-worker", "?"),
                reply.headers.get("x-allsorts-quantization", "?"),
                reply.headers.get("x-request-id", "?"),
            )
            notes.print(f"answered by {who[0]} at {who[1]}, request {who[2]}", style="dim", markup=False)
    except httpx.HTTPError as error:
        raise ConfigError(f"{client.base_url}: {error or type(error).__name__}") from None
    return "".join(parts)


def _texts(reply: httpx.Response) -> Iterator[str]:
    for line in reply.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = msgspec.json.decode(line[6:])
        if "error" in event:
            raise ConfigError(event["error"]["message"])
        for choice in event.get("choices", ()):
            if text := choice["delta"].get("content"):
                yield text


def _reason(body: bytes, status: int) -> str:
    hint = "; give a key with --key or ALLSORTS_API_KEY" if status in (401, 403) else ""
    try:
        return str(msgspec.json.decode(body)["error"]["message"]) + hint
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the router answered HTTP {status}{hint}"
