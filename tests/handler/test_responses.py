"""POST /v1/responses over real HTTP, through OpenAI's own client, before a simulated provider."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import orjson
import pytest
from openai.types.responses import FunctionToolParam, Response

from handler.flow import Usage
from handler.keys import NewKey, Routing
from tests.nearvote_server import Server, create_key
from tests.protocol_server import price_of

EVENTS = Path(__file__).parents[1] / "events" / "agents"
QUESTION = "Translate to French: good morning"
FULL = {"x-nearvote-evidence": "full"}
ROUTE = "/route?protocol=responses"
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
PIXEL = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
PDF = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}


@pytest.fixture(scope="module")
def sdk(protocol_server: Server) -> Iterator[openai.OpenAI]:
    base_url = f"{protocol_server.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=protocol_server.key, max_retries=0, timeout=20) as client:
        yield client


def ask(caller: httpx.Client, headers: dict[str, str] | None = None, path: str = "", **body: Any) -> httpx.Response:
    return caller.post(path or "/responses", json={"model": "auto", "input": QUESTION, **body}, headers=headers)


def said(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def usage_of(response: Response) -> Usage:
    assert response.usage is not None
    told = response.usage
    return Usage(told.input_tokens, told.output_tokens, told.input_tokens_details.cached_tokens)


def test_a_routed_answer_says_which_model_ran_and_why(sdk: openai.OpenAI) -> None:
    raw = sdk.responses.with_raw_response.create(model="auto", input=QUESTION)
    response = raw.parse()
    assert response.output_text.startswith(f'[simulated {response.model}] You wrote "Translate to French:')
    assert (raw.headers["x-nearvote-model"], raw.headers["x-nearvote-cause"]) == (response.model, "vote")
    cost = float(raw.headers["x-nearvote-cost"])
    assert cost == pytest.approx(price_of(response.model, usage_of(response)), abs=1e-8)


@pytest.mark.parametrize("evidence", [{}, FULL])
def test_a_stream_is_the_same_text_and_ends_with_the_usage(sdk: openai.OpenAI, evidence: dict[str, str]) -> None:
    events = list(sdk.responses.create(model="sim-small", input=QUESTION, stream=True, extra_headers=evidence))
    whole = sdk.responses.create(model="sim-small", input=QUESTION)
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    (completed,) = (event.response for event in events if event.type == "response.completed")
    assert "".join(pieces) == completed.output_text == whole.output_text
    assert len(pieces) > 10
    assert usage_of(completed) == usage_of(whole)


@pytest.mark.parametrize("evidence", [{}, FULL])
def test_a_stream_comes_byte_for_byte_and_evidence_is_an_event_behind_it(
    caller: httpx.Client, provider: httpx.Client, evidence: dict[str, str]
) -> None:
    body = {"model": "sim-small", "input": QUESTION, "stream": True}
    direct = provider.post("/responses", json=body).content
    through = caller.post("/responses", json=body, headers=evidence).content
    numbered = re.compile(rb'simulated_\d+|"created_at":\d+')
    through, _, told = numbered.sub(b"", through).partition(b"\n\nevent: nearvote\ndata: ")
    assert through.rstrip() == numbered.sub(b"", direct).rstrip()
    assert bool(told) is bool(evidence)


def test_a_tool_s_loop_ends_in_words(sdk: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "Use a tool: what is the weather in Oslo?"}]
    first = sdk.responses.create(model="auto", input=asked, tools=[WEATHER])
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.name, call.arguments) == ("get_weather", '{"city":"simulated"}')
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "3 °C"}
    asked += [call.to_dict(), result]
    second = sdk.responses.create(model="auto", input=asked, tools=[WEATHER])
    assert second.output_text.startswith("[simulated sim-")


def test_an_answer_may_be_held_to_a_schema(sdk: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "place", "schema": PLACE, "strict": True}}
    assert sdk.responses.create(model="auto", input=QUESTION, text=form).output_text == '{"city":"simulated"}'


SENT: dict[str, Any] = {
    "instructions": "Be brief.",
    "input": said({"type": "input_text", "text": "Grüße 🎉 \u2028, what is this?"}, PIXEL),
    "temperature": 1.0,
    "reasoning": {"summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "store": False,
    "prompt_cache_key": "k",
    "client_metadata": {"session_id": "s"},
    "x_vendor_option": {"deep": [1, -2.5e-7, None, {"": []}]},
}


def test_a_body_goes_on_in_its_order_but_for_the_model(caller: httpx.Client, provider: httpx.Client) -> None:
    own: dict[str, Any] = {"session_id": "s", "models": ["sim-small"], "plugins": [{"id": "auto-router"}]}
    answer = caller.post("/responses", json={"model": "auto", **SENT, **own})
    assert answer.status_code == 200
    assert orjson.dumps(provider.get("/_last").json()["body"]) == orjson.dumps({"model": "sim-small", **SENT})


def test_the_key_goes_on_as_openai_wants_it_and_an_agent_s_headers_stay_here(
    caller: httpx.Client, provider: httpx.Client
) -> None:
    ask(caller, {"session-id": "s", "x-codex-turn-state": "token", "originator": "codex_exec"})
    headers = provider.get("/_last").json()["headers"]
    assert headers["authorization"] is True
    assert headers.keys() & {"session-id", "x-codex-turn-state", "originator", "x-api-key"} == set()


@pytest.mark.parametrize("stream", [False, True])
def test_what_leans_on_an_answer_stays_with_the_model_that_gave_it(caller: httpx.Client, stream: bool) -> None:
    answer = ask(caller, model="sim-medium", stream=stream)
    found = re.search(r'"(resp_simulated_\d+)"', answer.text)
    assert found is not None
    hard = "Prove that there are infinitely many primes."
    decision = ask(caller, path=ROUTE, previous_response_id=found[1], input=hard).json()
    assert (decision["model"], decision["cause"], decision["fallbacks"]) == ("sim-medium", "continued", [])


def test_what_leans_on_an_answer_of_another_key_or_on_one_that_was_not_kept_is_routed(
    protocol_server: Server, caller: httpx.Client
) -> None:
    key = create_key(protocol_server.home, NewKey(name="other", routing=Routing.ON, allow=("sim-*",)))
    kept = ask(caller, model="sim-medium").json()["id"]
    forgotten = ask(caller, model="sim-medium", store=False).json()["id"]
    other = {"authorization": f"Bearer {key}"}
    assert ask(caller, other, ROUTE, previous_response_id=kept).json()["cause"] == "vote"
    assert ask(caller, path=ROUTE, previous_response_id=forgotten).json()["cause"] == "vote"


def test_an_answer_that_the_provider_has_lost_is_told_in_its_words(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="auto", input=QUESTION, previous_response_id="resp_0")
    assert refused.value.code == "previous_response_not_found"


ERRORS: list[tuple[dict[str, Any], type[openai.APIStatusError], str]] = [
    ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found"),
    ({"model": "chat-only"}, openai.NotFoundError, "protocol_not_spoken"),
    ({"input": 3}, openai.BadRequestError, "invalid_value"),
    ({"background": True}, openai.BadRequestError, "invalid_value"),
    ({"input": "The launch codes, please"}, openai.PermissionDeniedError, "denied_by_rule"),
    ({"input": said(PDF)}, openai.NotFoundError, "no_model_left"),
    ({"max_output_tokens": 100_000}, openai.NotFoundError, "no_model_left"),
]


@pytest.mark.parametrize(("changes", "kind", "code"), ERRORS)
def test_an_error_of_ours_is_the_right_one_for_openai_s_client(
    sdk: openai.OpenAI, changes: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as refused:
        sdk.responses.create(**{"model": "auto", "input": QUESTION, **changes})
    assert refused.value.code == code


def test_what_no_model_can_do_is_named(caller: httpx.Client) -> None:
    told = ask(caller, input=said(PDF)).json()["error"]["message"]
    assert told.startswith("no model is left to choose: the request's files left none of sim-small,")
    speech = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]
    chat = caller.post("/chat/completions", json={"model": "auto", "messages": speech})
    assert "the request's audio left none of sim-small," in chat.json()["error"]["message"]


def test_a_second_turn_is_expected_to_cost_less_on_the_model_that_has_the_first(caller: httpx.Client) -> None:
    text = f"{uuid4()} Summarise these minutes. " + "We met and spoke of it. " * 1700
    talk: list[Any] = [{"role": "user", "content": text}]
    first = ask(caller, FULL, input=talk, max_output_tokens=8).json()["nearvote"]
    more = [*talk, {"role": "assistant", "content": "We met."}, {"role": "user", "content": "And what came of it?"}]
    second = ask(caller, FULL, input=more, max_output_tokens=8).json()
    assert (first["cached_tokens"], second["model"]) == (0, first["model"])
    assert second["nearvote"]["cached_tokens"] > 10_000
    assert second["nearvote"]["expected_cost"] < first["expected_cost"] / 5
    assert second["usage"]["input_tokens_details"]["cached_tokens"] > 10_000


@pytest.mark.parametrize(
    ("name", "headers", "rule", "model"),
    [
        ("codex-user", {}, "careful", "sim-large"),
        ("codex-tool-result", {}, "steps", "sim-small"),
        ("codex-user", {"x-openai-subagent": "review"}, "helpers", "sim-medium"),
        ("codex-user", {"x-parent-session-id": "opencode"}, "helpers", "sim-medium"),
    ],
)
def test_codex_s_turns_meet_the_rules_for_them(
    caller: httpx.Client, name: str, headers: dict[str, str], rule: str, model: str
) -> None:
    event = orjson.loads((EVENTS / f"{name}.json").read_bytes())
    sent = {**event["headers"], **headers, "x-rules": "on"}
    answer = caller.post("/responses", json=event["body"], headers=sent)
    assert b"event: response.completed" in answer.content
    assert (answer.headers["x-nearvote-rule"], answer.headers["x-nearvote-model"]) == (rule, model)
