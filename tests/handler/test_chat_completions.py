"""The data plane over real HTTP, through the real openai client, before a simulated provider."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import openai
import orjson
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

from handler.keys import KeyChange, KeyStore, NewKey, Routing
from handler.sqlite_table import SqliteTable
from tests.chats import FULL, PRICES, QUESTION, chat, error_of, lines, wait_until
from tests.nearvote_server import Server, create_key

HARD = "Prove that there are infinitely many primes, then generalise the proof to other rings."
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def sdk(nearvote_server: Server) -> Iterator[openai.OpenAI]:
    base_url = f"{nearvote_server.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=nearvote_server.key, max_retries=0, timeout=15) as client:
        yield client


@pytest_asyncio.fixture
async def async_sdk(nearvote_server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    base_url = f"{nearvote_server.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key=nearvote_server.key, max_retries=0, timeout=15) as client:
        yield client


@pytest.fixture(scope="module")
def http(nearvote_server: Server) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {nearvote_server.key}"}
    with httpx.Client(base_url=nearvote_server.url, headers=headers, timeout=15) as client:
        yield client


@pytest.fixture(scope="module")
def upstream(simulated_provider: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulated_provider, timeout=10) as client:
        yield client


@pytest.fixture
def new_key(nearvote_server: Server) -> Callable[..., dict[str, str]]:
    """Makes a key; gives the header that carries it."""

    def make(**options: Any) -> dict[str, str]:
        key = create_key(nearvote_server.home, NewKey(name="test", **{"routing": Routing.ON, **options}))
        return {"authorization": f"Bearer {key}"}

    return make


def stats(upstream: httpx.Client) -> dict[str, int]:
    counts: dict[str, int] = upstream.get("/_stats").json()
    return counts


def events(body: bytes) -> list[Any]:
    """The data of a stream's events; [DONE] as it is."""
    data = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data:")]
    return ["[DONE]" if each == b"[DONE]" else orjson.loads(each) for each in data]


@pytest.mark.parametrize("model", ["auto", "nearvote/auto"])
def test_a_routed_answer_says_which_model_ran_and_why(sdk: openai.OpenAI, model: str) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model=model, messages=QUESTION)
    answer, shown = raw.parse(), {name: value for name, value in raw.headers.items() if name.startswith("x-nearvote-")}
    assert answer.usage is not None
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith(f'[simulated {answer.model}] You wrote "Translate to French:')
    into, out = PRICES[answer.model]
    cost = (answer.usage.prompt_tokens * into + answer.usage.completion_tokens * out) / 1e6
    assert {name.removeprefix("x-nearvote-") for name in shown} == {
        *("model", "cause", "decision-id", "index-version", "overhead-ms", "expected-cost", "confidence", "cost")
    }
    assert (shown["x-nearvote-model"], shown["x-nearvote-cause"]) == (answer.model, "vote")
    assert float(shown["x-nearvote-cost"]) == pytest.approx(cost, abs=1e-8)
    assert 0 < float(shown["x-nearvote-confidence"]) <= 1
    assert 0 < float(shown["x-nearvote-overhead-ms"]) < 5000


def test_a_named_model_is_taken_whatever_the_vote_would_say(sdk: openai.OpenAI) -> None:
    for model in PRICES:
        raw = sdk.chat.completions.with_raw_response.create(
            model=model, messages=QUESTION, extra_headers={"x-nearvote-dial": "5"}
        )
        assert (raw.parse().model, raw.headers["x-nearvote-model"]) == (model, model)
        assert (raw.headers["x-nearvote-cause"], "x-nearvote-confidence" in raw.headers) == ("named", False)


async def test_the_async_client_is_answered_too(async_sdk: openai.AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(async_sdk.chat.completions.create(model=model, messages=QUESTION) for model in ["auto", *PRICES])
    )
    assert answers[0].model in PRICES
    assert [answer.model for answer in answers[1:]] == list(PRICES)


async def test_the_async_client_s_stream_is_the_same_text_as_the_whole_answer(async_sdk: openai.AsyncOpenAI) -> None:
    stream = await async_sdk.chat.completions.create(model="sim-small", messages=QUESTION, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    whole = await async_sdk.chat.completions.create(model="sim-small", messages=QUESTION)
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 10


@pytest.mark.parametrize("included", [True, False])
def test_a_stream_has_usage_when_it_was_asked_for(sdk: openai.OpenAI, included: bool) -> None:
    stream = sdk.chat.completions.create(
        model="auto", messages=QUESTION, stream=True, stream_options={"include_usage": included}
    )
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} < set(PRICES)
    usage = [chunk.usage for chunk in chunks if chunk.usage]
    assert [each.completion_tokens > 0 for each in usage] == [True] * included
    assert sum(not chunk.choices for chunk in chunks) == included


def test_tool_calls_come_through(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="auto", messages=QUESTION, tools=[WEATHER], tool_choice="required")
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"simulated"}')


def test_streamed_tool_calls_come_through(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="auto", messages=QUESTION, tools=[WEATHER], tool_choice="required", stream=True, extra_headers=FULL
    )
    calls = [call for chunk in stream for call in _tool_calls(chunk)]
    assert calls[0].function is not None
    assert calls[0].function.name == "get_weather"
    assert "".join(call.function.arguments or "" for call in calls if call.function) == '{"city":"simulated"}'


def _tool_calls(chunk: ChatCompletionChunk) -> list[Any]:
    return list(chunk.choices[0].delta.tool_calls or []) if chunk.choices else []


def test_an_agent_s_loop_with_a_tool_result_is_answered_in_words(sdk: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "Use a tool: what is the weather in Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": '{"celsius": 3}'},
    ]
    answer = sdk.chat.completions.create(model="auto", messages=messages, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "stop"


def test_a_response_format_comes_through(sdk: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "additionalProperties": False}
    answer = sdk.chat.completions.create(
        model="auto",
        messages=QUESTION,
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema}},
    )
    assert answer.choices[0].message.content == '{"city":"simulated"}'


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_content_in_parts_is_routed_as_its_text_is(http: httpx.Client) -> None:
    text = {"type": "text", "text": QUESTION[0]["content"]}
    whole, parted = (chat(http, path="/v1/route", messages=messages).json() for messages in (QUESTION, in_parts(text)))
    assert whole.pop("decision_id") != parted.pop("decision_id")
    costs = {"expected_cost", "expected_latency_ms"}  # which go by the length of all that is sent, and by the clock
    for told in (whole, parted, *whole["ranking"], *parted["ranking"]):
        for name in costs & set(told):
            del told[name]
    assert whole == parted


def test_images_beside_text_come_through_and_are_routed(sdk: openai.OpenAI, upstream: httpx.Client) -> None:
    messages: Any = in_parts({"type": "text", "text": "What is in this picture?"}, IMAGE)
    raw = sdk.chat.completions.with_raw_response.create(model="auto", messages=messages)
    assert raw.parse().model == raw.headers["x-nearvote-model"]
    assert upstream.get("/_last").json()["body"]["messages"] == messages


def test_images_alone_are_no_empty_prompt(http: httpx.Client) -> None:
    decision = chat(http, path="/v1/route", messages=in_parts(IMAGE)).json()
    assert decision["cause"] in {"vote", "unfamiliar"}
    assert len(decision["neighbours"]) == 10


def in_parts(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": " "}]])
def test_a_request_without_any_text_is_answered_by_the_default(http: httpx.Client, content: Any) -> None:
    answer = chat(http, messages=[{"role": "user", "content": content}])
    assert (answer.status_code, answer.headers["x-nearvote-cause"]) == (200, "no_text")
    assert answer.json()["model"] == "sim-large"


SENT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief.", "cache_control": {"type": "ephemeral"}},
        {"role": "user", "name": "ö", "content": [{"type": "text", "text": "Grüße 🎉 \u2028", "extra": None}]},
    ],
    "temperature": 0.1,
    "top_p": 1.0,
    "seed": 9007199254740993,
    "logit_bias": {"50256": -100},
    "metadata": {"nested": [1, -2.5e-7, True, None, {"": []}]},
    "x_vendor_option": {"deep": {"deeper": ["kept"]}},
    "n": 1,
    "max_completion_tokens": 40,
    "stream": False,
}


def test_what_nearvote_does_not_know_is_carried_through_untouched(http: httpx.Client, upstream: httpx.Client) -> None:
    own: dict[str, Any] = {"session_id": "s-1", "models": ["sim-small", "sim-medium"]}
    web = {"id": "web", "max_results": 3}
    answer = chat(http, **SENT, **own, plugins=[{"id": "auto-router", "cost_quality_tradeoff": 10}, web])
    assert answer.json()["model"] == "sim-small"
    assert upstream.get("/_last").json()["body"] == {**SENT, "model": "sim-small", "plugins": [web]}


def test_a_named_request_keeps_all_but_nearvote_s_own_fields(http: httpx.Client, upstream: httpx.Client) -> None:
    models: dict[str, Any] = {"models": ["sim-small", "gpt-9"]}
    chat(http, model="sim-large", **SENT, **models, session_id="s", plugins=[{"id": "auto-router"}])
    assert upstream.get("/_last").json()["body"] == {**SENT, **models, "model": "sim-large"}


def test_the_caller_s_headers_stay_here(http: httpx.Client, upstream: httpx.Client) -> None:
    chat(http, {**FULL, "cookie": "a=b", "x-session-id": "s", "x-nearvote-dial": "1"})
    headers = upstream.get("/_last").json()["headers"]
    assert headers.keys() & {"cookie", "x-session-id", "x-nearvote-dial", "x-nearvote-evidence"} == set()


def test_an_unknown_model_is_refused_with_those_that_exist(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.chat.completions.create(model="gpt-9", messages=QUESTION)
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert "there are: auto, nearvote/auto, sim-small, sim-medium, sim-large" in refused.value.message


def test_the_models_are_auto_and_the_fleet(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["auto", "nearvote/auto", *PRICES]


def test_a_route_is_the_decision_of_the_call_without_calling_a_model(
    http: httpx.Client, upstream: httpx.Client
) -> None:
    before = stats(upstream)
    routed = chat(http, path="/v1/route", stream=True, plugins=[{"id": "auto-router", "cost_quality_tradeoff": 4}])
    assert stats(upstream) == before
    called = chat(http, FULL, plugins=[{"id": "auto-router", "cost_quality_tradeoff": 4}])
    decision, evidence = routed.json(), called.json()["nearvote"]
    assert decision.pop("decision_id") != evidence.pop("decision_id")
    assert decision == evidence
    assert (decision["dial"], decision["cause"], len(decision["neighbours"])) == (4.0, "vote", 10)
    assert {one["model"] for one in decision["ranking"]} == set(PRICES)
    assert decision["ranking"][0]["model"] == decision["model"] == called.json()["model"]
    nearest = decision["neighbours"][0]
    assert nearest["similarity"] == decision["nearest"]
    assert (nearest["weight"], nearest["scores"].keys()) == (1.0, PRICES.keys())
    assert routed.headers["x-nearvote-model"] == decision["model"]


def test_a_route_of_a_named_model_says_so(http: httpx.Client) -> None:
    decision = chat(http, path="/v1/route", model="sim-medium").json()
    assert (decision["model"], decision["cause"], decision["ranking"]) == ("sim-medium", "named", [])


def test_full_evidence_stands_in_the_last_chunk_before_done(http: httpx.Client) -> None:
    routed = chat(http, path="/v1/route").json()
    answer = chat(http, FULL, stream=True, stream_options={"include_usage": True})
    *chunks, last, done = events(answer.content)
    assert done == "[DONE]"
    assert answer.content.endswith(b"}\n\ndata: [DONE]\n\n")
    assert last["nearvote"].pop("decision_id") == answer.headers["x-nearvote-decision-id"]
    routed.pop("decision_id")
    assert last["nearvote"] == routed
    assert (last["choices"], last["model"], last["object"]) == ([], routed["model"], "chat.completion.chunk")
    assert not any("nearvote" in chunk for chunk in chunks)
    assert chunks[-1]["usage"] is not None


def test_the_openai_client_reads_a_stream_with_evidence(sdk: openai.OpenAI) -> None:
    chunks = list(sdk.chat.completions.create(model="auto", messages=QUESTION, stream=True, extra_headers=FULL))
    assert [bool(chunk.model_extra and "nearvote" in chunk.model_extra) for chunk in chunks] == [
        *([False] * (len(chunks) - 1)),
        True,
    ]


@pytest.mark.parametrize("headers", [{}, FULL])
def test_the_first_token_is_not_held_back(http: httpx.Client, headers: dict[str, str]) -> None:
    body = {"model": "sim-large", "messages": QUESTION, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        arrived = [(time.monotonic(), chunk) for chunk in answer.iter_raw()]
    assert events(arrived[0][1])[0]["choices"][0]["delta"]["role"] == "assistant"
    assert arrived[-1][0] - arrived[0][0] > 0.2  # 40 tokens at 100 a second
    assert len(arrived) > 10


@pytest.mark.parametrize("headers", [{}, FULL])
def test_a_client_that_leaves_a_stream_cancels_the_call_upstream(
    http: httpx.Client, upstream: httpx.Client, headers: dict[str, str]
) -> None:
    before = stats(upstream)
    body = {"model": "sim-large", "messages": QUESTION, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        next(answer.iter_raw())
    wait_until(lambda: stats(upstream)["cancelled"] == before["cancelled"] + 1)
    assert stats(upstream)["finished"] == before["finished"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["auto", "sim-large"])
def test_a_client_that_leaves_while_the_upstream_hangs_cancels_the_call(
    http: httpx.Client, upstream: httpx.Client, stream: bool, model: str
) -> None:
    before = stats(upstream)
    body = {"model": model, "messages": QUESTION, "stream": stream, "simulate": "hang"}
    with pytest.raises(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.4))
    wait_until(lambda: stats(upstream)["cancelled"] == before["cancelled"] + 1)


def test_a_client_that_leaves_before_a_whole_answer_cancels_the_call(
    http: httpx.Client, upstream: httpx.Client
) -> None:
    before = stats(upstream)
    with pytest.raises(httpx.ReadTimeout):
        http.post(
            "/v1/chat/completions",
            json={"model": "sim-large", "messages": QUESTION},
            timeout=httpx.Timeout(5, read=0.1),
        )
    wait_until(lambda: stats(upstream)["cancelled"] == before["cancelled"] + 1)


async def test_a_cancelled_task_of_the_async_client_cancels_the_call(
    async_sdk: openai.AsyncOpenAI, upstream: httpx.Client
) -> None:
    before = stats(upstream)
    asking = asyncio.create_task(
        async_sdk.chat.completions.create(model="auto", messages=QUESTION, extra_body={"simulate": "hang"})
    )
    await asyncio.to_thread(wait_until, lambda: stats(upstream)["started"] == before["started"] + 1)
    asking.cancel()
    await asyncio.wait([asking])
    await asyncio.to_thread(wait_until, lambda: stats(upstream)["cancelled"] == before["cancelled"] + 1)


@pytest.mark.parametrize(
    ("raw", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[1]", "invalid_json", None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "invalid_value", "model"),
        (b'{"model": "auto"}', "invalid_value", "messages"),
        (b'{"model": "auto", "messages": "hi"}', "invalid_value", "messages"),
        (b'{"model": "auto", "messages": [1]}', "invalid_value", "messages"),
        (b'{"model": "auto", "messages": [{}], "stream": "true"}', "invalid_value", "stream"),
        (b'{"model": "auto", "messages": [{}], "models": ["gpt-9"]}', "invalid_value", "models"),
        (
            b'{"model": "auto", "messages": [{}], "plugins": [{"id": "auto-router", "sped": 1}]}',
            "invalid_value",
            "plugins.sped",
        ),
        (
            b'{"model": "auto", "messages": [{}], "plugins": [{"id": "auto-router", "cost_quality_tradeoff": 11}]}',
            "invalid_value",
            "plugins.cost_quality_tradeoff",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
def test_a_body_that_cannot_be_used_is_refused_with_the_name_of_what_is_wrong(
    http: httpx.Client, path: str, raw: bytes, code: str, param: str | None
) -> None:
    assert error_of(http.post(path, content=raw)) == (400, code, param)


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-nearvote-dial", "11"), ("x-nearvote-dial", "-1"), ("x-nearvote-dail", "3"), ("X-Nearvote-Evidence", "all")],
)
def test_a_header_of_nearvote_s_that_it_does_not_know_is_refused(http: httpx.Client, name: str, value: str) -> None:
    assert error_of(chat(http, {name: value})) == (400, "invalid_value", name.lower())


@pytest.mark.parametrize("text", [QUESTION[0]["content"], HARD])
def test_dial_0_is_the_most_capable_and_10_the_cheapest(http: httpx.Client, text: str) -> None:
    messages = [{"role": "user", "content": text}]
    by_header = [
        chat(http, {"x-nearvote-dial": dial}, messages=messages).headers["x-nearvote-model"] for dial in ["0", "10"]
    ]
    by_plugin = [
        chat(http, messages=messages, plugins=[{"id": "auto-router", "cost_quality_tradeoff": dial}]).json()["model"]
        for dial in [0, 10]
    ]
    assert by_header == by_plugin == ["sim-large", "sim-small"]


def test_what_is_easy_goes_to_a_cheaper_model_than_what_is_hard(http: httpx.Client) -> None:
    models = [
        chat(http, {"x-nearvote-dial": "4"}, "/v1/route", messages=[{"role": "user", "content": text}]).json()["model"]
        for text in ["hi, how are you today?", HARD]
    ]
    assert PRICES[models[0]] < PRICES[models[1]]


def auto_router(**fields: Any) -> dict[str, Any]:
    return {"plugins": [{"id": "auto-router", **fields}]}


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (auto_router(allowed_models=["sim-m*", "sim-l*"]), {"sim-medium", "sim-large"}),
        (auto_router(excluded_models=["*-large"]), {"sim-small", "sim-medium"}),
        ({"models": ["sim-large", "sim-small"]}, {"sim-large", "sim-small"}),
    ],
)
def test_a_request_may_restrict_what_is_chosen_from(http: httpx.Client, body: dict[str, Any], models: set[str]) -> None:
    assert {one["model"] for one in chat(http, path="/v1/route", **body).json()["ranking"]} == models


def test_one_model_that_is_left_needs_no_vote(http: httpx.Client) -> None:
    answer = chat(http, models=["sim-medium"])
    assert (answer.json()["model"], answer.headers["x-nearvote-cause"]) == ("sim-medium", "only_candidate")


@pytest.mark.parametrize(
    ("body", "restriction"),
    [
        (auto_router(allowed_models=["gpt-*"]), "the request's allowed_models left none of sim-medium, sim-large"),
        (auto_router(excluded_models=["sim-*"]), "the request's excluded_models left none of sim-medium, sim-large"),
        ({"models": ["sim-small"]}, "the request's `models` left none of sim-medium, sim-large"),
    ],
)
def test_restrictions_that_leave_no_model_are_named(
    http: httpx.Client, new_key: Any, body: dict[str, Any], restriction: str
) -> None:
    answer = chat(http, new_key(exclude=("*-small",)), **body)
    assert error_of(answer) == (404, "no_model_left", None)
    assert restriction in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("options", "headers", "body", "model"),
    [
        ({}, {"x-nearvote-routing": "off"}, {}, "sim-large"),
        ({"default_model": "sim-medium"}, {"x-nearvote-routing": "off"}, {}, "sim-medium"),
        ({"default_model": "sim-medium"}, {}, auto_router(enabled=False), "sim-medium"),
        ({"default_model": "gone", "exclude": ("*-large",)}, {"x-nearvote-routing": "off"}, {}, "sim-medium"),
    ],
)
def test_a_request_that_opts_out_gets_the_default_model(
    http: httpx.Client, new_key: Any, options: Any, headers: dict[str, str], body: dict[str, Any], model: str
) -> None:
    answer = chat(http, {**new_key(**options), **headers}, **body)
    assert (answer.json()["model"], answer.headers["x-nearvote-cause"]) == (model, "opted_out")


@pytest.mark.parametrize("routing", [Routing.OFF, Routing.FORECAST])
@pytest.mark.parametrize("model", ["auto", "nearvote/auto"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
def test_auto_with_a_key_that_does_not_route_is_refused_with_the_command_that_switches_it_on(
    http: httpx.Client, new_key: Any, routing: Routing, model: str, path: str
) -> None:
    key = new_key(routing=routing)
    answer = chat(http, key, path, model=model)
    assert error_of(answer) == (403, "routing_off", None)
    key_id = key["authorization"].split("-")[1]
    assert f"nearvote keys change {key_id} --routing on" in answer.json()["error"]["message"]


def test_a_forecast_key_s_named_request_is_answered_and_what_routing_would_have_done_is_logged(
    http: httpx.Client, new_key: Any, nearvote_server: Server
) -> None:
    key = new_key(routing=Routing.FORECAST, dial=10.0)
    answer = chat(http, key, model="sim-large")
    assert (answer.json()["model"], answer.headers["x-nearvote-cause"]) == ("sim-large", "named")
    of = answer.headers["x-nearvote-decision-id"]
    wait_until(lambda: len(lines(nearvote_server, event="forecast", of=of)) == 1)
    (forecast,) = lines(nearvote_server, event="forecast", of=of)
    assert {name: forecast[name] for name in ("key", "model", "cause", "served", "requested")} == {
        "key": key["authorization"].split("-")[1],
        "model": "sim-small",
        "cause": "vote",
        "served": "sim-large",
        "requested": "auto",
    }
    assert forecast["decision_id"] != of


@pytest.mark.parametrize("stream", [False, True])
def test_each_request_is_one_line_in_the_log(http: httpx.Client, nearvote_server: Server, stream: bool) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
    answer = chat(http, model="sim-small", stream=stream, **options)
    id = answer.headers["x-nearvote-decision-id"]
    wait_until(lambda: len(lines(nearvote_server, event="request", decision_id=id)) == 1)
    (line,) = lines(nearvote_server, event="request", decision_id=id)
    assert line["overhead_ms"] < line["total_ms"]
    expected = {
        "key": nearvote_server.key.split("-")[1],
        "requested": "sim-small",
        "model": "sim-small",
        "cause": "named",
        "status": 200,
        "stream": stream,
        "input_tokens": 9,
        "output_tokens": line["output_tokens"],
        "cost": pytest.approx((9 * 0.1 + line["output_tokens"] * 0.5) / 1e6),
        "error": None,
    }
    assert {name: line[name] for name in expected} == expected


def test_a_key_that_is_missing_wrong_revoked_or_expired_is_refused(
    nearvote_server: Server, new_key: Any, http: httpx.Client
) -> None:
    good = nearvote_server.key
    revoked = new_key()["authorization"]
    with closing(SqliteTable(nearvote_server.home / "state.db")) as table:
        KeyStore(table, (nearvote_server.home / "pepper").read_bytes()).revoke(revoked.split("-")[1])
    expired = new_key(expires_at=1)["authorization"]
    wrong = f"Bearer {good[:-1]}{'a' if good[-1] != 'a' else 'b'}"
    for presented in (wrong, revoked, expired, "Bearer nv-", f"Bearer {good} x", "Bearer é".encode("latin-1")):
        headers = [(b"authorization", presented.encode() if isinstance(presented, str) else presented)]
        answer = httpx.get(f"{nearvote_server.url}/v1/models", headers=headers)
        assert error_of(answer) == (401, "invalid_api_key", None)
    for headers in ([], [(b"authorization", b"Basic " + good.encode())], [(b"authorization", b"Bearer")]):
        answer = httpx.get(f"{nearvote_server.url}/v1/models", headers=headers)
        assert error_of(answer) == (401, "missing_api_key", None)
    for path in ("/v1/chat/completions", "/v1/route"):
        assert error_of(chat(http, {"authorization": wrong}, path)) == (401, "invalid_api_key", None)


def test_the_openai_client_raises_what_a_wrong_key_deserves(nearvote_server: Server) -> None:
    with (
        openai.OpenAI(base_url=f"{nearvote_server.url}/v1", api_key="sk-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_a_change_of_a_key_is_live_within_5_seconds(http: httpx.Client, new_key: Any, nearvote_server: Server) -> None:
    switched, revoked = new_key(routing=Routing.OFF), new_key()
    assert chat(http, switched, "/v1/route").status_code == 403
    assert chat(http, revoked, "/v1/route").status_code == 200
    with closing(SqliteTable(nearvote_server.home / "state.db")) as table:
        keys = KeyStore(table, (nearvote_server.home / "pepper").read_bytes())
        keys.change(switched["authorization"].split("-")[1], KeyChange(routing=Routing.ON))
        keys.revoke(revoked["authorization"].split("-")[1])
    deadline = time.monotonic() + 5
    wait_until(lambda: chat(http, switched, "/v1/route").status_code == 200, deadline - time.monotonic())
    wait_until(lambda: chat(http, revoked, "/v1/route").status_code == 401, deadline - time.monotonic())


def test_what_is_not_there_has_the_same_shape_of_error(http: httpx.Client) -> None:
    assert error_of(http.get("/v1/nothing")) == (404, "not_found", None)
    assert error_of(http.delete("/v1/models")) == (405, "method_not_allowed", None)


def test_anybody_may_ask_for_the_health(http: httpx.Client) -> None:
    health = httpx.get(f"{http.base_url}/healthz").json()
    decision = chat(http, path="/v1/route").json()
    assert health == {
        "status": "ok",
        "index_version": decision["index_version"],
        "fleet_version": decision["fleet_version"],
        "detail": None,
    }
