"""What a stream begins with."""

import pytest

from handler.data.opening import Opening, opening_of

CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","error":null,"output":[]}}\n\n'
)
IN_PROGRESS = b'data: {"type":"response.in_progress","response":{"error":null}}\n\n'
ITEM = b'event: response.output_item.added\ndata: {"type":"response.output_item.added","item":{"id":"i"}}\n\n'
STARTED = b'event: message_start\ndata: {"type":"message_start","message":{"type":"message","usage":{}}}\n\n'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BLOCK = b'event: content_block_start\ndata: {"type":"content_block_start","index":0}\n\n'
CHUNK = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
COMMENT = b": still at work\n\n"


@pytest.mark.parametrize(
    "begun",
    [b"", b"\n\n", COMMENT, CREATED, CREATED + IN_PROGRESS, STARTED, STARTED + PING, PING * 3, CHUNK[:-2], CHUNK[:-1]],
)
def test_what_says_nothing_yet_is_no_answer(begun: bytes) -> None:
    assert opening_of(begun) is Opening.NOTHING


@pytest.mark.parametrize(
    "begun",
    [
        CHUNK,
        CHUNK.replace(b"\n", b"\r\n"),
        COMMENT + CHUNK,
        b"data:" + CHUNK[6:],
        CREATED + IN_PROGRESS + ITEM,
        STARTED + BLOCK,
        STARTED + PING + BLOCK,
        b"data: [DONE]\n\n",
        b"data: not JSON\n\n",
        CHUNK + b'data: {"error":{"message":"no"}}\n\n',
        b'data: {"error":null,"choices":[]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\"error\\": {"}}]}\n\n',
    ],
)
def test_an_answer_begins_with_the_first_event_that_says_something(begun: bytes) -> None:
    assert opening_of(begun) is Opening.ANSWER


@pytest.mark.parametrize(
    "begun",
    [
        b'data: {"error":{"message":"no"}}\n\n',
        b'data: {"error": "no"}\n\n',
        b'data: {"id":"c","error":{"code":429},"choices":[{"finish_reason":"error"}]}\r\n\r\n',
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"no"}}\n\n',
        b'event: error\ndata: {"type":"error","code":"server_error","message":"no","sequence_number":0}\n\n',
        COMMENT + b'data: {"error":{"message":"no"}}\n\n',
        STARTED + PING + b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n',
        CREATED + IN_PROGRESS + b'data: {"type":"response.failed","response":{"error":{"code":"server_error"}}}\n\n',
    ],
)
def test_an_error_that_comes_first_is_none(begun: bytes) -> None:
    assert opening_of(begun) is Opening.ERROR
