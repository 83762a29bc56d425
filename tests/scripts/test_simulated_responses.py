"""The simulated provider's Responses as OpenAI's own client sees them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import FunctionToolParam, ResponseInputItemParam

ANSWER = (
    '[simulated sim-small] You wrote "What is the capital of France, please?". '
    "A small model answers this in a sentence. This text is canned: no model ran."
)
QUESTION = "What is the capital of France, please?"
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "strict": False,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "optional": {"type": "string"}},
        "required": ["city", "days"],
    },
}
WEATHER_ARGUMENTS = {"city": "simulated", "days": 0}
OTHER: FunctionToolParam = {"type": "function", "name": "other", "strict": False, "parameters": {}}


@pytest.fixture(scope="module")
def sdk(simulated_provider: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=simulated_provider, api_key="sk-made-up", max_retries=0, timeout=10) as client:
        yield client


@pytest.fixture(scope="module")
def http(simulated_provider: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=simulated_provider, timeout=10) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "sim-small", "input": QUESTION, **fields}


def test_an_answer_says_that_it_is_simulated_and_counts_its_tokens(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="sim-small", input=QUESTION, instructions="Be brief.")
    assert (response.output_text, response.status, response.model) == (ANSWER, "completed", "sim-small")
    assert (response.instructions, response.incomplete_details, response.error) == ("Be brief.", None, None)
    assert response.usage is not None
    # 9 + 38 characters
    assert response.usage.to_dict() == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 26,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 38,
    }


def test_messages_may_be_items_with_parts(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(
        model="sim-small",
        input=[
            {"role": "developer", "content": "Be brief."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is the capital"},
                    {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                    {"type": "input_text", "text": "of France, please?"},
                ],
            },
        ],
    )
    assert response.output_text == ANSWER


def test_an_answer_that_the_limit_has_cut_is_incomplete(sdk: openai.OpenAI) -> None:
    response = sdk.responses.create(model="sim-small", input=QUESTION, max_output_tokens=3)
    assert (response.output_text, response.status) == ("[simulated sim-small] You", "incomplete")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.usage is not None
    assert response.usage.output_tokens == 3


def test_a_stream_gives_the_same_response(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="sim-small", input=QUESTION) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert "".join(deltas) == response.output_text == ANSWER
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 26)


def streamed(http: httpx.Client, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The events' data, without their numbers, which must count from 0, and their names, which must be their types."""
    *events, rest = http.post("/responses", json={**asked, "stream": True}).text.split("\n\n")
    lines = [event.split("\n") for event in events]
    data = [json.loads(line.removeprefix("data: ")) for _, line in lines]
    assert rest == ""
    assert [name for name, _ in lines] == [f"event: {each['type']}" for each in data]
    assert [each.pop("sequence_number") for each in data] == list(range(len(data)))
    return data


def test_a_text_is_streamed_between_its_item_and_the_whole_response(http: httpx.Client) -> None:
    created, progress, *events, last = streamed(http, body(max_output_tokens=2))
    item = last["response"]["output"][0]
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    text = "[simulated sim-small]"
    assert (created["type"], progress["type"]) == ("response.created", "response.in_progress")
    assert created["response"] == progress["response"]
    assert (created["response"]["status"], created["response"]["output"]) == ("in_progress", [])
    assert item == {
        "type": "message",
        "id": item["id"],
        "role": "assistant",
        "status": "incomplete",
        "content": [{**empty, "text": text}],
    }
    begun = {**item, "status": "in_progress", "content": []}
    delta = {"type": "response.output_text.delta", **place, "logprobs": []}
    assert events == [
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **place, "part": empty},
        {**delta, "delta": "[simulated"},
        {**delta, "delta": " sim-small]"},
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**empty, "text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")


def test_a_call_is_streamed_in_pieces_of_its_arguments(http: httpx.Client) -> None:
    _, _, added, *deltas, done, item_done, last = streamed(http, body(tools=[WEATHER], tool_choice="required"))
    item = last["response"]["output"][0]
    about = {"item_id": item["id"], "output_index": 0}
    assert (item["type"], item["name"], item["status"]) == ("function_call", "get_weather", "completed")
    assert json.loads(item["arguments"]) == WEATHER_ARGUMENTS
    assert added == {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {**item, "status": "in_progress", "arguments": ""},
    }
    assert len(deltas) > 1
    assert "".join(delta.pop("delta") for delta in deltas) == item["arguments"]
    assert deltas == [{"type": "response.function_call_arguments.delta", **about}] * len(deltas)
    whole = {"name": "get_weather", "arguments": item["arguments"]}
    assert done == {"type": "response.function_call_arguments.done", **about, **whole}
    assert item_done == {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert last["type"] == "response.completed"


def test_an_agents_loop_calls_a_function_once(sdk: openai.OpenAI) -> None:
    asked: ResponseInputItemParam = {"role": "user", "content": "Use a tool for the weather"}
    with sdk.responses.stream(model="sim-small", input=[asked], tools=[WEATHER, OTHER]) as stream:
        [call] = stream.get_final_response().output
    assert call.type == "function_call"
    assert (call.name, json.loads(call.arguments)) == ("get_weather", WEATHER_ARGUMENTS)
    last = sdk.responses.create(
        model="sim-small",
        input=[
            asked,
            {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
        ],
        tools=[WEATHER, OTHER],
    )
    assert [item.type for item in last.output] == ["message"]


def test_the_named_function_is_called(http: httpx.Client) -> None:
    asked = body(tools=[WEATHER, OTHER], tool_choice={"type": "function", "name": "other"})
    [call] = http.post("/responses", json=asked).json()["output"]
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "other", "{}")


@pytest.mark.parametrize(("text", "choice"), [("Hello", "auto"), ("Use a tool", "none")])
def test_no_function_is_called_unasked_or_forbidden(http: httpx.Client, text: str, choice: str) -> None:
    reply = http.post("/responses", json=body(input=text, tools=[WEATHER], tool_choice=choice)).json()
    assert [item["type"] for item in reply["output"]] == ["message"]


@pytest.mark.parametrize(
    ("wanted", "content"),
    [
        ({"type": "json_object"}, {"simulated": True}),
        (
            {
                "type": "json_schema",
                "name": "closed",
                "schema": {"properties": {"name": {"type": "string"}}, "additionalProperties": False},
            },
            {"name": "simulated"},
        ),
    ],
)
def test_structured_text_fits_what_was_asked_for(
    http: httpx.Client, wanted: dict[str, Any], content: dict[str, Any]
) -> None:
    reply = http.post("/responses", json=body(text={"format": wanted})).json()
    assert json.loads(reply["output"][0]["content"][0]["text"]) == content
    assert reply["text"] == {"format": wanted}


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("overloaded", openai.InternalServerError),
    ],
)
def test_a_fault_raises_what_openais_own_would(
    sdk: openai.OpenAI, fault: str, raised: type[openai.APIStatusError]
) -> None:
    with pytest.raises(raised):
        sdk.responses.create(model="sim-small", input=QUESTION, extra_headers={"x-simulate": fault})


def test_an_error_event_ends_a_stream(sdk: openai.OpenAI) -> None:
    stream = sdk.responses.create(
        model="sim-small", input=QUESTION, stream=True, extra_body={"simulate": "error_event"}
    )
    *_, delta, last = list(stream)
    assert delta.type == "response.output_text.delta"
    assert last.type == "error"
    assert (last.code, last.message) == ("server_error", "Simulated server error.")


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"model": "gpt-none"}, 404, "model", "model_not_found"),
        ({"input": None}, 400, "input", None),
        ({"input": []}, 400, "input", None),
        ({"input": ["text"]}, 400, "input", None),
        ({"instructions": 1}, 400, "instructions", None),
        ({"max_output_tokens": 0}, 400, "max_output_tokens", None),
        ({"previous_response_id": "resp_1"}, 400, "previous_response_id", "previous_response_not_found"),
        ({"tools": ["text"]}, 400, "tools", None),
        ({"tool_choice": {"type": "function", "name": "absent"}}, 400, "tool_choice", None),
        ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format", None),
    ],
)
def test_what_cannot_be_answered_is_refused_as_openai_does(
    http: httpx.Client, changes: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    reply = http.post("/responses", json=body(**changes))
    error = reply.json()["error"]
    assert (reply.status_code, error["type"]) == (status, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize("name", ["metadata", "input"])
def test_what_is_nested_too_deeply_to_be_written_again_is_refused(http: httpx.Client, name: str) -> None:
    nested = json.loads('[{"content": ' * 150 + "0" + "}]" * 150)
    reply = http.post("/responses", json=body(**{name: nested}))
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "The body is nested too deeply.")
