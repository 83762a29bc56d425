import pytest

from tests.bench import endings
from tests.bench.endings import Ending

ANSWER = b'{"choices": [{"message": {"content": "word"}, "finish_reason": "stop"}]}'
ERROR = b'{"error": {"message": "Busy.", "type": "server_error", "param": null, "code": null}}'
GARBAGE = b"<html>"
WORD = b'data: {"choices": [{"delta": {"content": "word"}, "finish_reason": null}]}\n\n'
FINISH = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"total_tokens": 1}}\n\n'
DONE = b"data: [DONE]\n\n"
FAILED = b"data: " + ERROR + b"\n\n"


@pytest.mark.parametrize(
    ("status", "body", "ending"),
    [
        (200, ANSWER, Ending.ANSWERED),
        (429, ERROR, Ending.REFUSED),
        (200, GARBAGE, Ending.LOST),
        (500, GARBAGE, Ending.LOST),
        (500, ANSWER, Ending.LOST),
        (502, b'{"error": "Busy."}', Ending.LOST),
        (200, b"[]", Ending.LOST),
    ],
)
def test_an_answer_is_whole_or_an_error_or_lost(status: int, body: bytes, ending: Ending) -> None:
    assert endings.whole(status, body) is ending


@pytest.mark.parametrize(
    ("status", "body", "ending"),
    [
        (200, WORD + FINISH + USAGE + DONE, Ending.ANSWERED),
        (200, WORD + b"\n\n" + FAILED, Ending.REFUSED),
        (503, ERROR, Ending.REFUSED),
        (200, WORD + FINISH, Ending.LOST),
        (200, WORD + DONE, Ending.LOST),
        (200, GARBAGE, Ending.LOST),
        (200, b"", Ending.LOST),
    ],
)
def test_a_stream_comes_to_its_end_or_tells_of_an_error_or_is_lost(status: int, body: bytes, ending: Ending) -> None:
    assert endings.stream(status, body) is ending
