"""A soak of seconds; whether anything is lost or grows is for `make soak` to say."""

from tests.bench import soak
from tests.bench.endings import Ending
from tests.bench.soak import Kind, Requests, Tally


def test_what_is_neither_answered_nor_refused_is_lost() -> None:
    kind = Kind("auto", stream=True)
    tally = Tally()
    tally.sent[kind] = 10
    tally.ended.update({(kind, Ending.ANSWERED): 6, (kind, Ending.REFUSED): 3})
    assert tally.of(kind) == Requests("auto", "stream", sent=10, answered=6, refused=3, lost=1)


def test_a_soak_tells_what_became_of_each_kind_and_what_the_server_held() -> None:
    requests, held = soak.measure(seconds=3.0, examples=20)
    assert [(row.model, row.answer) for row in requests.rows] == [
        ("sim-small", "whole"),
        ("sim-small", "stream"),
        ("auto", "whole"),
        ("auto", "stream"),
    ]
    assert all(row.answered for row in requests.rows)
    assert len(held.rows) == 3
