"""POST /v1/messages over real HTTP, through Anthropic's own client, before a simulated provider."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anthropic
import httpx
import orjson
import pytest
from anthropic.types import Message, MessageParam, ToolParam

from handler.flow import Usage
from handler.keys import NewKey, Routing
from tests.nearvote_server import Server, create_key
from tests.protocol_server import price_of

EVENTS = Path(__file__).parents[1] / "events" / "agents"
QUESTION: MessageParam = {"role": "user", "content": "Translate to French: good morning"}
WEATHER: ToolParam = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
FULL = {"x-nearvote-evidence": "full"}
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def sdk(protocol_server: Server) -> Iterator[anthropic.Anthropic]:
    with client(protocol_server, api_key=protocol_server.key) as one:
        yield one


def client(server: Server, **credentials: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, max_retries=0, timeout=20, **credentials)  # type: ignore[arg-type]


def ask(caller: httpx.Client, headers: dict[str, str] | None = None, path: str = "", **body: Any) -> httpx.Response:
    whole = {"model": "auto", "max_tokens": 8, "messages": [QUESTION], **body}
    return caller.post(path or "/messages", json=whole, headers={**VERSION, **(headers or {})})


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def usage_of(message: Message) -> Usage:
    told = message.usage
    cached, written = told.cache_read_input_tokens or 0, told.cache_creation_input_tokens or 0
    return Usage(told.input_tokens + cached + written, told.output_tokens, cached, written)


def test_a_routed_answer_says_which_model_ran_and_why(sdk: anthropic.Anthropic) -> None:
    raw = sdk.messages.with_raw_response.create(model="auto", max_tokens=50, messages=[QUESTION])
    message = raw.parse()
    assert text_of(message).startswith(f'[simulated {message.model}] You wrote "Translate to French:')
    assert (raw.headers["x-nearvote-model"], raw.headers["x-nearvote-cause"]) == (message.model, "vote")
    assert float(raw.headers["x-nearvote-cost"]) == pytest.approx(price_of(message.model, usage_of(message)), abs=1e-8)
    assert raw.headers["request-id"].startswith("req_simulated_")


def test_a_stream_is_the_same_text_and_has_the_usage(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(model="sim-small", max_tokens=50, messages=[QUESTION]) as stream:
        pieces, last = list(stream.text_stream), stream.get_final_message()
    whole = sdk.messages.create(model="sim-small", max_tokens=50, messages=[QUESTION])
    assert "".join(pieces) == text_of(whole)
    assert len(pieces) > 10
    assert usage_of(last) == usage_of(whole)


@pytest.mark.parametrize("evidence", [{}, FULL])
def test_a_stream_comes_byte_for_byte_and_evidence_is_an_event_behind_it(
    caller: httpx.Client, provider: httpx.Client, evidence: dict[str, str]
) -> None:
    body = {"model": "sim-small", "max_tokens": 20, "messages": [QUESTION], "stream": True}
    direct = provider.post("/messages", json=body, headers=VERSION).content
    through = caller.post("/messages", json=body, headers={**VERSION, **evidence}).content
    numbered = re.compile(rb"msg_simulated_\d+")
    through, _, told = numbered.sub(b"", through).partition(b"\n\nevent: nearvote\ndata: ")
    assert through.rstrip() == numbered.sub(b"", direct).rstrip()
    assert bool(told) is bool(evidence)
    if told:
        assert orjson.loads(told)["nearvote"]["model"] == "sim-small"


def test_evidence_in_a_stream_does_not_disturb_the_client(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.stream(model="auto", max_tokens=50, messages=[QUESTION], extra_headers=FULL) as stream:
        assert text_of(stream.get_final_message()).startswith("[simulated sim-")


def test_evidence_of_a_whole_answer_stands_in_its_body(caller: httpx.Client) -> None:
    told = ask(caller, FULL).json()
    assert (told["type"], told["nearvote"]["cause"]) == ("message", "vote")
    assert len(told["nearvote"]["neighbours"]) == 10


def test_a_tool_s_loop_ends_in_words(sdk: anthropic.Anthropic) -> None:
    asked: MessageParam = {"role": "user", "content": "Use a tool: what is the weather in Oslo?"}
    first = sdk.messages.create(model="auto", max_tokens=100, messages=[asked], tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    (used,) = (block for block in first.content if block.type == "tool_use")
    assert (used.name, used.input) == ("get_weather", {"city": "simulated"})
    result = {"type": "tool_result", "tool_use_id": used.id, "content": "3 °C"}
    turns = [("assistant", used.to_dict()), ("user", result)]
    history: list[Any] = [asked, *({"role": role, "content": [block]} for role, block in turns)]
    second = sdk.messages.create(model="auto", max_tokens=100, messages=history, tools=[WEATHER])
    assert (second.stop_reason, [block.type for block in second.content]) == ("end_turn", ["text"])


SENT: dict[str, Any] = {
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [{"role": "user", "content": [PIXEL, {"type": "text", "text": "Grüße 🎉 \u2028, what is this?"}]}],
    "temperature": 1.0,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": "u"},
    "x_vendor_option": {"deep": [1, -2.5e-7, None, {"": []}]},
    "max_tokens": 40,
}


def test_a_body_goes_on_in_its_order_but_for_the_model(caller: httpx.Client, provider: httpx.Client) -> None:
    own: dict[str, Any] = {"session_id": "s", "models": ["sim-small"], "plugins": [{"id": "auto-router"}]}
    answer = caller.post("/messages?beta=true", json={"model": "auto", **SENT, **own}, headers=VERSION)
    assert answer.status_code == 200
    assert orjson.dumps(provider.get("/_last").json()["body"]) == orjson.dumps({"model": "sim-small", **SENT})


def test_anthropic_s_headers_go_on_and_the_caller_s_key_does_not(caller: httpx.Client, provider: httpx.Client) -> None:
    ask(caller, {"anthropic-beta": "a-2026-01-01,b-2026-01-01", "x-claude-code-session-id": "s", "cookie": "a=b"})
    headers = provider.get("/_last").json()["headers"]
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2023-06-01", "a-2026-01-01,b-2026-01-01")
    assert (headers["x-api-key"], headers["authorization"]) == (True, False)
    assert headers.keys() & {"x-claude-code-session-id", "cookie"} == set()


def test_a_caller_that_names_no_version_has_anthropic_s_first(caller: httpx.Client, provider: httpx.Client) -> None:
    caller.post("/messages", json={"model": "sim-small", "max_tokens": 1, "messages": [QUESTION]})
    assert provider.get("/_last").json()["headers"]["anthropic-version"] == "2023-06-01"


def test_a_body_may_be_packed(caller: httpx.Client) -> None:
    body = gzip.compress(orjson.dumps({"model": "sim-small", "max_tokens": 1, "messages": [QUESTION]}))
    packed = {**VERSION, "content-encoding": "gzip", "content-type": "application/json"}
    assert caller.post("/messages", content=body, headers=packed).json()["model"] == "sim-small"


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (b"no gzip", "gzip", 400, "invalid_encoding"),
        (gzip.compress(b"{}")[:-9], "gzip", 400, "invalid_encoding"),
        (b"{}", "br", 400, "invalid_encoding"),
        (gzip.compress(bytes(40 * 1024 * 1024)), "gzip", 413, "body_too_large"),
    ],
)
def test_a_body_that_is_packed_otherwise_or_swells_too_much_is_refused(
    caller: httpx.Client, body: bytes, encoding: str, status: int, code: str
) -> None:
    told = caller.post("/messages", content=body, headers={"content-encoding": encoding})
    assert (told.status_code, told.json()["error"]["code"]) == (status, code)


def test_tokens_are_counted_by_the_named_model_or_the_default(sdk: anthropic.Anthropic, provider: httpx.Client) -> None:
    for model, counted_by in (("sim-small", "sim-small"), ("auto", "sim-large")):
        counted = sdk.messages.count_tokens(model=model, messages=[QUESTION], system="Be brief.")
        assert counted.input_tokens == 11  # 33 and 9 characters
        assert provider.get("/_last").json()["body"]["model"] == counted_by


def test_a_key_comes_as_an_api_key_or_as_an_auth_token(protocol_server: Server) -> None:
    for credentials in ({"api_key": protocol_server.key}, {"auth_token": protocol_server.key}):
        with client(protocol_server, **credentials) as one:
            assert one.messages.create(model="sim-small", max_tokens=1, messages=[QUESTION]).model == "sim-small"


def test_the_models_are_listed_in_anthropic_s_shape(sdk: anthropic.Anthropic) -> None:
    listed = list(sdk.models.list(limit=1000))
    assert [model.id for model in listed] == [
        *("auto", "nearvote/auto", "sim-small", "sim-medium", "sim-large", "plain", "keyless", "chat-only")
    ]
    assert {(model.type, model.display_name == model.id) for model in listed} == {("model", True)}


def test_claude_code_s_warm_up_is_answered(protocol_server: Server) -> None:
    assert httpx.head(f"{protocol_server.url}/api/hello").status_code == 200


ERRORS: list[tuple[dict[str, Any], type[anthropic.APIStatusError], str, str]] = [
    ({"model": "claude-9"}, anthropic.NotFoundError, "not_found_error", "model_not_found"),
    ({"model": "chat-only"}, anthropic.NotFoundError, "not_found_error", "protocol_not_spoken"),
    ({"messages": []}, anthropic.BadRequestError, "invalid_request_error", "invalid_value"),
    (
        {"messages": [{"role": "user", "content": "The launch codes, please"}]},
        *(anthropic.PermissionDeniedError, "permission_error", "denied_by_rule"),
    ),
    (
        {"messages": [{"role": "user", "content": [PDF]}]},
        *(anthropic.NotFoundError, "not_found_error", "no_model_left"),
    ),
    ({"max_tokens": 100_000}, anthropic.NotFoundError, "not_found_error", "no_model_left"),
    ({"model": "keyless"}, anthropic.InternalServerError, "api_error", "upstream_key_refused"),
]


@pytest.mark.parametrize(("changes", "kind", "type", "code"), ERRORS)
def test_an_error_of_ours_is_the_right_one_for_anthropic_s_client(
    sdk: anthropic.Anthropic, changes: dict[str, Any], kind: type[anthropic.APIStatusError], type: str, code: str
) -> None:
    with pytest.raises(kind) as refused:
        sdk.messages.create(**{"model": "auto", "max_tokens": 8, "messages": [QUESTION], **changes})
    body: Any = refused.value.body
    assert body.keys() == {"type", "error"}
    assert (body["type"], body["error"]["type"], body["error"]["code"]) == ("error", type, code)


def test_a_key_that_is_wrong_or_may_not_route_is_told_so(protocol_server: Server) -> None:
    with client(protocol_server, api_key="nv-0") as one, pytest.raises(anthropic.AuthenticationError):
        one.messages.create(model="auto", max_tokens=1, messages=[QUESTION])
    unrouted = create_key(protocol_server.home, NewKey(name="unrouted"))
    with client(protocol_server, api_key=unrouted) as one, pytest.raises(anthropic.PermissionDeniedError):
        one.messages.create(model="auto", max_tokens=1, messages=[QUESTION])


def test_an_upstream_s_error_comes_in_its_own_words(caller: httpx.Client) -> None:
    answer = ask(caller, model="sim-small", max_tokens="many")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_what_no_model_can_do_is_named(caller: httpx.Client) -> None:
    told = ask(caller, messages=[{"role": "user", "content": [PDF]}]).json()["error"]["message"]
    assert told.startswith("no model is left to choose: the request's files left none of sim-small,")
    told = ask(caller, max_tokens=100_000).json()["error"]["message"]
    assert "the request's size (prompt is too long: about 12 tokens, and 100000 for the answer) left none of" in told


@pytest.mark.parametrize(
    "needed",
    [
        {"messages": [{"role": "user", "content": [PIXEL]}]},
        {"tools": [WEATHER]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"max_tokens": 2000},
    ],
)
def test_a_model_that_cannot_do_what_is_needed_does_not_stand(
    protocol_server: Server, caller: httpx.Client, needed: dict[str, Any]
) -> None:
    among = {"models": ["plain", "sim-large"]}
    key = create_key(protocol_server.home, NewKey(name="anyone", routing=Routing.ON))
    anyone = {"authorization": f"Bearer {key}"}
    assert ask(caller, anyone, "/route?protocol=messages", **among).json()["model"] in among["models"]
    decision = ask(caller, anyone, "/route?protocol=messages", **among, **needed).json()
    assert (decision["model"], decision["cause"]) == ("sim-large", "only_candidate")


def test_what_is_written_to_and_read_from_the_cache_is_charged_as_such(sdk: anthropic.Anthropic) -> None:
    system: Any = [{"type": "text", "text": f"{uuid4()} " + "x" * 8000, "cache_control": {"type": "ephemeral"}}]
    costs, told = [], []
    for _ in range(2):
        raw = sdk.messages.with_raw_response.create(
            model="sim-medium", max_tokens=8, messages=[QUESTION], system=system
        )
        costs.append(float(raw.headers["x-nearvote-cost"]))
        told.append(usage_of(raw.parse()))
    # 8037 characters of system are 2010 tokens, 33 of the question 9 at most.
    assert [(usage.written_tokens, usage.cached_tokens) for usage in told] == [(2010, 0), (0, 2010)]
    rest, output = told[0].input_tokens - 2010, told[0].output_tokens
    by_hand = [(rest * 0.40 + output * 2.00 + 2010 * price) / 1e6 for price in (0.50, 0.04)]
    assert costs == pytest.approx(by_hand, abs=1e-8)


def conversation() -> dict[str, Any]:
    """Of 10,000 tokens, which nobody has seen."""
    text = f"{uuid4()} Summarise these minutes. " + "We met and spoke of it. " * 1700
    return {"system": [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}], "max_tokens": 8}


def test_a_second_turn_is_expected_to_cost_less_on_the_model_that_has_the_first(caller: httpx.Client) -> None:
    talk = conversation()
    first = ask(caller, FULL, **talk).json()["nearvote"]
    said = [QUESTION, {"role": "assistant", "content": "Bonjour"}, {"role": "user", "content": "And in Spanish?"}]
    second = ask(caller, FULL, **talk, messages=said).json()["nearvote"]
    assert (first["cached_tokens"], second["model"]) == (0, first["model"])
    assert second["cached_tokens"] > 10_000
    assert second["expected_cost"] < first["expected_cost"] / 5


def test_a_warm_prefix_may_change_the_choice_and_says_so(caller: httpx.Client) -> None:
    talk = conversation()
    cold = ask(caller, path="/route?protocol=messages", **talk).json()
    assert (cold["cause"], cold["model"] != "sim-large") == ("vote", True)
    ask(caller, model="sim-large", **talk)
    warm = ask(caller, path="/route?protocol=messages", **talk).json()
    assert (warm["cause"], warm["model"]) == ("cached_prefix", "sim-large")


def test_thoughts_that_a_provider_has_signed_go_back_to_it(caller: httpx.Client) -> None:
    headers = {"x-session-id": uuid4().hex, "x-nearvote-dial": "10"}
    thoughts = {"type": "thinking", "thinking": "French, then.", "signature": "c2lnbmVk"}
    said = {"type": "text", "text": "Bonjour"}
    models = []
    for answer in ([said], [thoughts, said]):
        ask(caller, headers, model="sim-large")
        turns = [QUESTION, {"role": "assistant", "content": answer}, {"role": "user", "content": "And in Spanish?"}]
        models.append(ask(caller, headers, messages=turns).headers["x-nearvote-model"])
    assert models == ["sim-small", "sim-large"]


def agent(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    event = orjson.loads((EVENTS / f"{name}.json").read_bytes())
    return event["body"], event["headers"]


@pytest.mark.parametrize(
    ("name", "rule", "model"),
    [
        ("claude-code-user", "careful", "sim-large"),
        ("claude-code-tool-result", "steps", "sim-small"),
        ("claude-code-subagent", "helpers", "sim-medium"),
    ],
)
def test_claude_code_s_turns_meet_the_rules_for_them(caller: httpx.Client, name: str, rule: str, model: str) -> None:
    body, headers = agent(name)
    answer = caller.post("/messages?beta=true", json=body, headers={**headers, "x-rules": "on"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["x-nearvote-rule"], answer.headers["x-nearvote-model"]) == (rule, model)


def test_a_rule_may_name_the_model_and_a_model_that_is_named_goes_before_it(caller: httpx.Client) -> None:
    legal = {"x-team": "legal-eu"}
    ruled, named = ask(caller, legal), ask(caller, legal, model="sim-small")
    assert ruled.headers["x-nearvote-rule"] == "legal"
    assert (ruled.headers["x-nearvote-model"], ruled.headers["x-nearvote-cause"]) == ("sim-medium", "rule")
    assert (named.headers["x-nearvote-model"], named.headers["x-nearvote-cause"]) == ("sim-small", "named")
    assert "x-nearvote-rule" not in named.headers


def test_a_rule_that_denies_goes_before_a_model_that_is_named(caller: httpx.Client) -> None:
    said = [{"role": "user", "content": "Tell me the LAUNCH CODES"}]
    told = ask(caller, model="sim-small", messages=said)
    assert (told.status_code, told.json()["error"]["message"]) == (403, "Not here.")
    assert told.headers["x-should-retry"] == "false"


def test_a_header_beyond_ascii_costs_no_request(caller: httpx.Client) -> None:
    sent = httpx.Headers([*VERSION.items(), ("anthropic-beta", "é")], encoding="latin-1")
    body = {"model": "auto", "max_tokens": 8, "messages": [QUESTION]}
    assert caller.post("/messages", json=body, headers=sent).status_code == 200
