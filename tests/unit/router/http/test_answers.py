"""What a client reads: whole answers, headers, usage, log-probabilities, models and health."""

import msgspec
import pytest

from protos.contract.request import ChatMessage
from router.config import HttpConfig
from router.domain.principal import Principal, Scope
from router.domain.request import SloTargets
from router.domain.token_bucket import TokenBucket
from router.errors import NotAllowed, NotAuthenticated, RateLimited
from router.http.auth.meters import Reservation
from tests.support.http_surface import MOVE, WORDS, surface

TEXT = "".join(WORDS)


async def test_a_whole_chat_answer_has_text_usage_and_who_answered() -> None:
    on = surface()
    reply = await on.chat()
    body = reply.json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": TEXT, "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["prompt_tokens"] == 7
    assert body["usage"]["completion_tokens"] == 6
    assert body["usage"]["total_tokens"] == 13
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert reply.headers["x-request-id"] == body["id"] == on.pipeline.requests[0].request_id
    assert reply.headers["x-allsorts-worker"] == "mac"
    assert reply.headers["x-allsorts-quantization"] == "q4_k_m"
    assert "x-allsorts-continued" not in reply.headers


async def test_a_continued_answer_says_so_and_names_who_finished() -> None:
    reply = await surface(moves=(MOVE,)).chat()
    assert reply.headers["x-allsorts-continued"] == "1"
    assert reply.headers["x-allsorts-worker"] == "h100"
    told = reply.json()["allsorts"]
    assert (told["worker"], told["quantization"]) == ("h100", "q8_0")
    assert told["continuations"][0]["at_token"] == 3


async def test_workers_counts_teach_the_guess_but_token_ids_need_none() -> None:
    on = surface()
    async with on.client() as client:
        await client.post("/v1/completions", json={"model": "m", "prompt": list(range(100, 200))})
        await client.post("/v1/completions", json={"model": "m", "prompt": "x" * 140})
        await client.post("/v1/completions", json={"model": "m", "prompt": "x" * 140})
    assert [request.prompt_tokens_estimate for request in on.pipeline.requests] == [100, 35, 7]


async def test_parameters_arrive_in_the_pipeline_as_they_were_sent() -> None:
    on = surface()
    await on.chat(
        model="m@>=Q6_K", max_completion_tokens=5, temperature=0, top_k=-1, seed=-1, stop="x", priority=3,
        slo={"ttft_s": 1.5}, messages=[{"role": "developer", "content": [{"type": "text", "text": "a"}]}],
    )  # fmt: skip
    request = on.pipeline.requests[0]
    assert (request.model.name, request.model.floor, request.model.pinned) == ("m", "q6_k", None)
    assert request.messages == (ChatMessage(role="system", content="a"),)
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_k, sampling.stop) == (5, 0.0, 0, ("x",))
    assert sampling.seed == 2**63 - 1
    assert request.priority == 3
    assert request.slo == SloTargets(ttft_s=1.5)
    assert request.prompt_bytes > 0
    assert request.prompt_tokens_estimate > 0


async def test_max_tokens_ends_an_answer_with_length() -> None:
    reply = await surface().chat(max_tokens=2)
    assert reply.json()["choices"][0]["finish_reason"] == "length"


async def test_an_answer_may_be_sent_back_as_it_came() -> None:
    """Clients keep the message object of an answer and send it with the next turn."""
    on = surface()
    message = (await on.chat()).json()["choices"][0]["message"]
    again = await on.chat(messages=[{"role": "user", "content": "hi"}, message, {"role": "user", "content": "more"}])
    assert again.status_code == 200


async def test_chat_logprobs_have_openais_shape_and_no_infinity() -> None:
    reply = await surface().chat(logprobs=True, top_logprobs=2)
    content = reply.json()["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in content] == list(WORDS)
    assert content[0]["bytes"] == list(b"Par")
    assert [rival["logprob"] for rival in content[0]["top_logprobs"]] == [-0.5, -9999.0]


async def test_completion_logprobs_count_offsets_over_the_whole_text() -> None:
    async with surface().client() as client:
        reply = await client.post("/v1/completions", json={"model": "m", "prompt": [1, 2, 3], "logprobs": 1})
    choice = reply.json()["choices"][0]
    assert choice["text"] == TEXT
    assert choice["logprobs"]["text_offset"] == [0, 3, 6, 9, 13, 16]
    assert choice["logprobs"]["top_logprobs"][0] == {"Par": -0.5}


async def test_models_are_listed_by_name_and_by_quantization_and_known_ones_stay_listed() -> None:
    async with surface().client() as client:
        listed = (await client.get("/v1/models")).json()
        one = await client.get("/v1/models/m@q4_k_m")
        none = await client.get("/v1/models/nobody")
    assert [model["id"] for model in listed["data"]] == ["away", "m", "m@q4_k_m"]
    assert one.json()["allsorts"]["quantizations"] == ["q4_k_m"]
    assert (none.status_code, none.json()["error"]["code"]) == (404, "model_not_found")


async def test_health_is_always_well_and_readiness_tells_the_reason() -> None:
    async with surface(ready=(False, "no worker is ready")).client() as client:
        health, ready = await client.get("/healthz"), await client.get("/readyz")
    assert health.status_code == 200
    assert (ready.status_code, ready.json()["reason"]) == (503, "no worker is ready")


async def test_metrics_count_requests_and_show_the_fleet() -> None:
    on = surface()
    await on.chat()
    await on.chat(model="made-up-by-a-client")
    async with on.client() as client:
        text = (await client.get("/metrics")).text
    assert 'allsorts_requests_total{model="m",quantization="q4_k_m",status="200"} 1.0' in text
    assert 'allsorts_output_tokens_total{model="m",quantization="q4_k_m"} 6.0' in text
    assert 'allsorts_worker_state{node="mac",state="ready"} 1.0' in text
    assert "made-up-by-a-client" not in text


class Guard:
    """Knows two keys, and one that is used up."""

    def __init__(self) -> None:
        self.bucket = TokenBucket.full(1000, 0.0)

    async def authenticate(self, authorization: str | None, scope: Scope, *, counted: bool = True) -> Principal:
        if authorization == "Bearer spent" and counted:
            raise RateLimited("too many", retry_after_s=7)
        if authorization in ("Bearer serve", "Bearer spent"):
            if scope is not Scope.SERVE:
                raise NotAllowed("the key lacks the scope")
            return Principal(
                key_id="k", priority=2, required_labels=(("site", "lab"),), quality_floor="q8_0", never_quantized=True
            )
        raise NotAuthenticated("no such key")

    def rate_headers(self, principal: Principal) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"x-ratelimit-limit-requests", b"60"),)

    def reserve(self, principal: Principal, tokens: int) -> Reservation:
        return Reservation(self.bucket, tokens)


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/v1/models", "", 401),
        ("/v1/models", "wrong", 401),
        ("/v1/models", "spent", 200),
        ("/v1/models", "serve", 200),
        ("/admin/fleet", "serve", 403),
        ("/admin/keys", "serve", 403),
        ("/metrics", "serve", 403),
        ("/healthz", "", 200),
        ("/readyz", "", 200),
    ],
)
async def test_every_path_asks_for_its_scope(path: str, key: str, status: int) -> None:
    async with surface(authenticator=Guard()).client() as client:
        reply = await client.get(path, headers={"authorization": f"Bearer {key}"} if key else {})
    assert reply.status_code == status
    if status == 401:
        assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_only_what_generates_counts_against_a_limit() -> None:
    """A spent key still sees the models; its next prompt is told when to come back."""
    async with surface(authenticator=Guard()).client() as client:
        reply = await client.post("/v1/chat/completions", json={}, headers={"authorization": "Bearer spent"})
    assert reply.status_code == 429
    assert reply.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
async def test_without_a_key_only_this_machines_own_names_are_answered(host: str, status: int) -> None:
    """A web page that points its own domain at 127.0.0.1 must not reach an open router."""
    async with surface().client() as client:
        reply = await client.get("/admin/fleet", headers={"host": host})
        health = await client.get("/healthz", headers={"host": host})
    assert (reply.status_code, health.status_code) == (status, 200)


async def test_keys_that_are_refused_are_counted_by_reason() -> None:
    """Whoever guesses keys leaves a trace."""
    on = surface(authenticator=Guard())
    async with on.client() as client:
        for key in ("Bearer wrong", "Bearer serve", "Bearer serve"):
            await client.get("/admin/fleet", headers={"authorization": key})
    text = on.metrics.render().decode()
    assert 'allsorts_keys_refused_total{reason="invalid_api_key"} 1.0' in text
    assert 'allsorts_keys_refused_total{reason="insufficient_scope"} 2.0' in text


async def test_a_keys_rules_go_with_its_requests_and_its_tokens_are_counted() -> None:
    """A request may step back behind its key's priority, not push ahead; the stricter floor counts."""
    guard = Guard()
    on = surface(authenticator=guard)
    async with on.client() as client:
        reply = await client.post(
            "/v1/chat/completions",
            json={"model": "m@>=q4_k_m", "messages": [{"role": "user", "content": "hi"}], "priority": 50},
            headers={"authorization": "Bearer serve"},
        )
    assert reply.headers["x-ratelimit-limit-requests"] == "60"
    assert guard.bucket.level == 1000 - 13
    request = on.pipeline.requests[0]
    assert (request.priority, request.model.floor, request.never_quantized) == (2, "q8_0", True)
    assert request.required_labels == (("site", "lab"),)


async def test_a_body_is_not_read_before_the_caller_is_known() -> None:
    async with surface(authenticator=Guard()).client() as client:
        reply = await client.post("/v1/chat/completions", content=b"{" * 100_000)
    assert reply.status_code == 401


async def test_operators_see_and_change_the_fleet() -> None:
    on = surface()
    async with on.client() as client:
        fleet = (await client.get("/admin/fleet")).json()
        await client.post("/admin/drain", json={"node": "mac", "deadline_s": 5})
        await client.post("/admin/undrain", json={"node": "mac"})
        await client.post("/admin/cordon", json={"node": "mac"})
        await client.post("/admin/revoke", json={"node": "mac", "reason": "sold"})
        lost = await client.post("/admin/drain", json={"node": "nobody"})
        wrong = await client.post("/admin/drain", json={"deadline_s": 5})
    assert on.fleet.done == [("drain", "mac", 5.0), ("undrain", "mac"), ("cordon", "mac"), ("revoke", "mac", "sold")]
    assert (lost.status_code, wrong.status_code) == (404, 400)
    worker = fleet["workers"][0]
    assert (worker["node"], worker["state"], worker["engine"]) == ("mac", "ready", "simulated")
    assert worker["models"][0]["speed"]["decode_tokens_per_s"] == pytest.approx(1 / (0.0205 + 256e-7))


async def test_tokens_and_keys_are_made_listed_and_deleted() -> None:
    async with surface().client() as client:
        token = (await client.post("/admin/tokens", json={"uses": 2, "labels": {"a": "b"}})).json()
        made = (await client.post("/admin/keys", json={"name": "me"})).json()
        listed = (await client.get("/admin/keys")).json()
        gone = await client.delete(f"/admin/keys/{made['key_id']}")
        twice = await client.delete(f"/admin/keys/{made['key_id']}")
    assert (token["ttl_s"], token["uses"], token["labels"]) == (3600.0, 2, {"a": "b"})
    assert listed == {"keys": [{"key_id": "key-0", "name": "me"}]}
    assert (gone.status_code, twice.status_code) == (200, 404)


async def test_a_decision_is_explained_or_said_to_be_gone() -> None:
    async with surface().client() as client:
        known, gone = await client.get("/admin/explain/req-known"), await client.get("/admin/explain/req-other")
    assert known.json()["request_id"] == "req-known"
    assert gone.status_code == 404


async def test_the_openapi_document_covers_every_route() -> None:
    on = surface()
    async with on.client() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
    documented = {(path.split("{")[0], method.upper()) for path, item in paths.items() for method in item}
    served = set(on.app.routes.all())
    assert documented == served
    assert msgspec.json.encode(paths)


@pytest.mark.parametrize(
    ("asked", "floor", "pinned"),
    [
        ({"model": "m"}, "q6_k", None),
        ({"model": "m@>=q4_0"}, "q4_0", None),
        ({"model": "m", "quality": "q8_0"}, "q8_0", None),
        ({"model": "m@q4_0"}, None, "q4_0"),
        ({"model": "other"}, None, None),
    ],
)
async def test_a_models_default_floor_holds_where_the_request_says_nothing(
    asked: dict[str, str], floor: str | None, pinned: str | None
) -> None:
    """A client that names a floor or pins a quantization knows what it wants."""
    there = surface(config=HttpConfig(quality_floors={"m": "q6_k"}))
    async with there.client() as client:
        await client.post("/v1/chat/completions", json={**asked, "messages": [{"role": "user", "content": "hi"}]})
    model = there.pipeline.requests[-1].model
    assert (model.floor, model.pinned) == (floor, pinned)
