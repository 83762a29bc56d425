"""A stream that breaks off after its first byte, as the providers' own clients see it: none takes it for whole."""

import threading
from collections.abc import Sequence

import anthropic
import openai
import pytest

from handler.flow import Protocol
from tests.failing_fleet import FailingFleet
from tests.scripted_upstream import EVENT_STREAM, Step

CHUNKED = EVENT_STREAM.replace(b"connection: close", b"transfer-encoding: chunked")


def piece(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


BEGUN = {
    Protocol.CHAT: [
        b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
        b'[{"index":0,"delta":{"role":"assistant","content":"one"},"finish_reason":null}]}\n\n'
    ],
    Protocol.MESSAGES: [
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg","type":"message",'
        b'"role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n',
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"one"}}\n\n',
    ],
    Protocol.RESPONSES: [
        b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"r",'
        b'"object":"response","status":"in_progress","error":null,"output":[]}}\n\n',
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":1,'
        b'"item_id":"i","output_index":0,"content_index":0,"delta":"one"}\n\n',
    ],
}
"""Of an answer: its first word."""
TOLD = {
    Protocol.CHAT: b'data: {"error":{"message":"theirs","type":"server_error","code":"overloaded"}}\n\n',
    Protocol.MESSAGES: b"event: error\n"
    b'data: {"type":"error","error":{"type":"overloaded_error","message":"theirs"}}\n\n',
    Protocol.RESPONSES: b'event: response.failed\ndata: {"type":"response.failed","sequence_number":2,"response":{"id":'
    b'"r","object":"response","status":"failed","error":{"code":"server_error","message":"theirs"},"output":[]}}\n\n',
}
BROKE_OFF = "first broke off in the middle of its answer"


def steps(protocol: Protocol, *after: Step) -> list[Step]:
    return [CHUNKED, *map(piece, BEGUN[protocol]), *after]


def endings(protocol: Protocol) -> dict[str, tuple[Sequence[Step], str]]:
    return {
        "cut": ([], BROKE_OFF),
        "cut in the middle of an event": ([piece(b'data: {"half')], BROKE_OFF),
        "a clean end, but not the protocol's": ([b"0\r\n\r\n"], BROKE_OFF),
        "silence": ([threading.Event()], "first fell silent in the middle of its answer"),
        "the upstream's own error": ([piece(TOLD[protocol]), b"0\r\n\r\n"], "theirs"),
    }


NAMES = list(endings(Protocol.CHAT))


def play(fleet: FailingFleet, protocol: Protocol, ending: str) -> str:
    """What the caller is to be told."""
    after, message = endings(protocol)[ending]
    fleet.first.steps = steps(protocol, *after)
    return message


def nothing_was_asked_twice(fleet: FailingFleet) -> bool:
    return (len(fleet.first.received), len(fleet.second.received)) == (1, 0)


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("ending", NAMES)
def test_openai_s_client_raises_when_a_chat_breaks_off(failing_fleet: FailingFleet, ending: str, usage: bool) -> None:
    message = play(failing_fleet, Protocol.CHAT, ending)
    seen: list[str] = []
    with openai.OpenAI(base_url=f"{failing_fleet.server.url}/v1", api_key=failing_fleet.server.key) as client:
        stream = client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": ""}],
            stream=True,
            stream_options={"include_usage": True} if usage else openai.omit,
        )
        with pytest.raises(openai.APIError) as error:
            seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert (seen, error.value.message) == (["one"], message)
    assert nothing_was_asked_twice(failing_fleet)


@pytest.mark.parametrize("ending", NAMES)
def test_anthropic_s_client_raises_when_a_message_breaks_off(failing_fleet: FailingFleet, ending: str) -> None:
    message = play(failing_fleet, Protocol.MESSAGES, ending)
    seen: list[str] = []
    with (
        anthropic.Anthropic(base_url=failing_fleet.server.url, api_key=failing_fleet.server.key) as client,
        client.messages.stream(model="auto", max_tokens=9, messages=[{"role": "user", "content": ""}]) as stream,
        pytest.raises(anthropic.APIStatusError) as error,
    ):
        seen.extend(stream.text_stream)
    assert seen == ["one"]
    assert message in str(error.value)
    assert nothing_was_asked_twice(failing_fleet)


@pytest.mark.parametrize("ending", NAMES)
def test_openai_s_client_is_told_that_a_response_failed(failing_fleet: FailingFleet, ending: str) -> None:
    message = play(failing_fleet, Protocol.RESPONSES, ending)
    with openai.OpenAI(base_url=f"{failing_fleet.server.url}/v1", api_key=failing_fleet.server.key) as client:
        events = list(client.responses.create(model="auto", input=[{"role": "user", "content": ""}], stream=True))
    assert [event.type for event in events[:-1]] == ["response.created", "response.output_text.delta"]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert (last.response.status, last.response.error.message) == ("failed", message)
    assert nothing_was_asked_twice(failing_fleet)
