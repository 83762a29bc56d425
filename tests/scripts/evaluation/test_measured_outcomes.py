"""Measured outcomes from CSV, and the split."""

import gzip

import numpy as np
import pytest

from index.errors import BadUpload
from index.types import Fault
from scripts.evaluation.outcomes import parse, split

GOOD = b"prompt,task,mini,maxi\nadd 1,maths,1,1\nprove it,,0,\n"


def faults(data: bytes) -> list[Fault]:
    with pytest.raises(BadUpload) as raised:
        parse(data)
    return list(raised.value.faults)


@pytest.mark.parametrize("data", [GOOD, gzip.compress(GOOD)])
def test_an_empty_cell_is_unknown(data: bytes) -> None:
    outcomes = parse(data)
    assert (outcomes.prompts, outcomes.tasks) == (("add 1", "prove it"), ("maths", ""))
    assert (outcomes.models, outcomes.duplicates, len(outcomes)) == (("mini", "maxi"), 0, 2)
    np.testing.assert_array_equal(outcomes.scores, [[1, 1], [0, np.nan]])


def test_of_lines_with_the_same_prompt_the_last_counts() -> None:
    outcomes = parse(b"prompt,mini\na,1\nb,0.25\na,0\na,0.5\n")
    assert (outcomes.prompts, outcomes.scores.tolist(), outcomes.duplicates) == (("a", "b"), [[0.5], [0.25]], 2)


def test_every_line_that_cannot_be_taken_is_named_at_once() -> None:
    data = b'prompt,model,mini,maxi\n"two\nlines",,1,0\n,,1,1\nb,,,\nc,,2,1\nd,,x,1\ne,mini,1,1\nf,,1\n"g",,nan,1\n'
    assert faults(data) == [
        Fault(4, "empty prompt"),
        Fault(5, "no outcome: every model's cell is empty"),
        Fault(6, "score of mini is outside 0..1: 2"),
        Fault(7, "score of mini is not a number: 'x'"),
        Fault(8, "a 'model' label is no measured outcome: give each model a column of scores"),
        Fault(9, "3 cells, but the header names 4 columns"),
        Fault(10, "score of mini is not a number: 'nan'"),
    ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", Fault(1, "no CSV header")),
        (b"text,mini\na,1\n", Fault(1, "no CSV header: the first line has to name a `prompt` column")),
        (b"prompt,mini\n", Fault(1, "no outcomes")),
        (b"prompt,mini,mini\na,1,1\n", Fault(1, "column 'mini' is there more than once")),
    ],
)
def test_a_file_without_outcomes_is_refused(data: bytes, fault: Fault) -> None:
    assert faults(data) == [fault]


def test_a_split_is_the_same_for_the_same_seed_and_leaves_nothing_out() -> None:
    first, again, other = split(100, 7, 30), split(100, 7, 30), split(100, 8, 30)
    assert (len(first.index), len(first.rest)) == (30, 70)
    assert sorted([*first.index, *first.rest]) == list(range(100))
    np.testing.assert_array_equal(first.index, again.index)
    np.testing.assert_array_equal(first.rest, again.rest)
    assert set(first.index) != set(other.index)
    np.testing.assert_array_equal(first.index, np.random.default_rng(7).permutation(100)[:30])
