"""Which models compete, and what they cost."""

import numpy as np
import pytest

from handler.fleet import parse as parse_fleet
from index.types import Candidate
from scripts.evaluation import contest
from scripts.evaluation.contest import BadContest
from scripts.evaluation.outcomes import parse

TWO = parse(b"prompt,big,small\na,1,1\nb,1,0\nc,,1\n")
THREE = parse(b"prompt,nano,mini,maxi\na,1,1,1\n")
DEPLOYED = 'deployments: [{base_url: "http://127.0.0.1:1/v1"}]'


def test_of_two_models_the_one_with_the_lower_mean_is_weak() -> None:
    found = contest.only_pair(TWO, price_ratio=20)
    assert found.candidates == (Candidate("small", 1.0), Candidate("big", 20.0))
    assert (found.columns.tolist(), found.cost.tolist(), found.names) == ([1, 0], [1.0, 20.0], ("small", "big"))


def test_a_fleet_goes_from_cheap_to_dear_and_finds_its_columns_by_name_or_like() -> None:
    fleet = parse_fleet(
        "models:\n"
        f"- {{name: new, like: maxi, price: {{input: 10, output: 20}}, {DEPLOYED}}}\n"
        f"- {{name: mini, price: {{input: 1, output: 2}}, {DEPLOYED}}}\n".encode()
    ).fleet
    found = contest.fleet(THREE, fleet, input_tokens=100, output_tokens=200)
    assert found.names == ("mini", "new")
    assert found.candidates[1].like == "maxi"
    assert found.columns.tolist() == [1, 2]
    np.testing.assert_allclose(found.cost, [0.0005, 0.005])


def test_more_than_two_models_have_to_be_named() -> None:
    told = "this file has 3 models: say which to compare by --weak and --strong, or by --fleet"
    with pytest.raises(BadContest, match=told):
        contest.only_pair(THREE, 10)


@pytest.mark.parametrize(
    ("weak", "strong", "ratio", "told"),
    [
        ("nan", "maxi", 10, "no column has outcomes of nan; the columns are nano, mini, maxi"),
        ("mini", "mini", 10, "there is nothing to choose from: give two models or more"),
        ("mini", "maxi", 1, "all models cost the same: there is nothing to save"),
    ],
)
def test_models_that_cannot_be_compared_are_refused(weak: str, strong: str, ratio: float, told: str) -> None:
    with pytest.raises(BadContest, match=told):
        contest.pair(THREE, weak, strong, ratio)
