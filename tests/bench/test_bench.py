"""The benchmarks run; how fast things are is for `make bench` to say, on a quiet machine."""

from tests.bench import decision, gateway, update
from tests.bench.local_server import model_directory
from tests.bench.prompts import Prompts
from tests.bench.report import Aim, Report, as_json, as_text

EXAMPLES = 20
"""Of the starter index: enough to vote."""


def test_the_decision_is_measured_for_each_length() -> None:
    rows = decision.measure(calls=2, warm_up=1, examples=EXAMPLES).rows
    assert [(row.prompt_tokens, row.embedded_tokens, row.calls) for row in rows] == [
        (32, 34, 2),
        (128, 34, 2),
        (8000, 34, 2),
    ]


def test_the_gateway_is_measured_beside_the_upstream_and_a_bare_proxy() -> None:
    rows = gateway.measure(seconds=0.1, warm_up=0.1, levels=(2,), examples=EXAMPLES).rows
    assert [(row.target, row.answer, row.callers) for row in rows] == [
        ("upstream itself", "whole", 2),
        ("bare proxy", "whole", 2),
        ("nearvote, named", "whole", 2),
        ("nearvote, auto", "whole", 2),
        ("upstream itself", "stream", 2),
        ("nearvote, named", "stream", 2),
        ("nearvote, auto", "stream", 2),
    ]


def test_an_update_is_measured_to_the_changed_route() -> None:
    rows = update.measure(repetitions=1, sizes=(2,), examples=EXAMPLES).rows
    assert [(row.examples, row.repetitions) for row in rows] == [(2, 1)]


def test_prompts_have_the_length_that_was_asked_for_and_are_never_the_same() -> None:
    prompts = Prompts(model_directory())
    made = [prompts.make(tokens) for tokens in (32, 32, 128, 8000)]
    assert [prompts.count(text) for text in made] == [32, 32, 128, 8000]
    assert len(set(made)) == 4


def test_a_report_says_which_aims_were_missed() -> None:
    report = Report(
        "Title", "conditions", (Aim("row", 1.5, 2.0),), (Aim("p95, ms", 41.0, 40.0), Aim("ratio", 1.1, 1.1))
    )
    assert as_text(report).splitlines() == [
        "Title",
        "conditions",
        "",
        "what  measured  at_most",
        "row   1.5       2.0",
        "MISSED: p95, ms: 41, aim at most 40",
        "met: ratio: 1.1, aim at most 1.1",
    ]
    assert as_json(report)["aims"] == [
        {"what": "p95, ms", "measured": 41.0, "at_most": 40.0, "met": False},
        {"what": "ratio", "measured": 1.1, "at_most": 1.1, "met": True},
    ]
